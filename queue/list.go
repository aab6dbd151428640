package queue

// list is a doubly linked list whose links are embedded in its members: moving a member allocates nothing.
type list[T any] struct {
	first, last *link[T]
	n           int
}

// link is a member's place in a list. A link is in at most one list at a time.
type link[T any] struct {
	owner      *T
	in         *list[T]
	prev, next *link[T]
}

func (l *list[T]) pushBack(k *link[T]) {
	k.in, k.prev, k.next = l, l.last, nil
	if l.last == nil {
		l.first = k
	} else {
		l.last.next = k
	}
	l.last = k
	l.n++
}

func (l *list[T]) pushFront(k *link[T]) {
	k.in, k.prev, k.next = l, nil, l.first
	if l.first == nil {
		l.last = k
	} else {
		l.first.prev = k
	}
	l.first = k
	l.n++
}

// remove takes the member out of the list it is in, if any.
func (k *link[T]) remove() {
	l := k.in
	if l == nil {
		return
	}
	if k.prev == nil {
		l.first = k.next
	} else {
		k.prev.next = k.next
	}
	if k.next == nil {
		l.last = k.prev
	} else {
		k.next.prev = k.prev
	}
	k.in, k.prev, k.next = nil, nil, nil
	l.n--
}
