/* Recycles the memory of payloads and batches: fresh memory of that size costs a page fault per 4 KiB, which is slower than
 * copying it. Buffers come in classes of powers of two; free ones are kept up to POOL_CAP bytes in all. Those that are smaller
 * than the smallest class are left to malloc. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "shim.h"

enum {
    SMALLEST_SHIFT = 14, /* 16 KiB */
    LARGEST_SHIFT = 26,  /* 64 MiB; larger ones are not kept */
    CLASSES = LARGEST_SHIFT - SMALLEST_SHIFT + 1,
    POOL_CAP = 128 << 20
};

/* Lies before every buffer. */
typedef struct buffer_head {
    struct buffer_head *next;
    size_t class_index; /* CLASSES: none */
    atomic_size_t holders;
    struct buffer_head *next_slab, *previous_slab; /* NULL unless it is a slab */
    char pad[24];
} buffer_head;

_Static_assert(sizeof(buffer_head) == 64, "a buffer is aligned to 64 bytes if malloc's result is to 16");

static struct {
    pthread_mutex_t lock;
    buffer_head *free[CLASSES];
    size_t kept; /* bytes */
    /* All slabs: pointers that only Go has are none to LeakSanitizer. */
    buffer_head slabs;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .slabs = {.next_slab = &pool.slabs, .previous_slab = &pool.slabs}};

static size_t class_of(size_t size)
{
    size_t index = 0;
    if (size <= (size_t)1 << (SMALLEST_SHIFT - 1))
        return CLASSES;
    while (index < CLASSES && ((size_t)1 << (SMALLEST_SHIFT + index)) < size)
        index++;
    return index;
}

static size_t class_size(size_t index) { return (size_t)1 << (SMALLEST_SHIFT + index); }

void *pb_buffer_get(size_t size)
{
    size_t index = class_of(size);
    buffer_head *head = NULL;
    if (index < CLASSES) {
        pthread_mutex_lock(&pool.lock);
        head = pool.free[index];
        if (head) {
            pool.free[index] = head->next;
            pool.kept -= class_size(index);
        }
        pthread_mutex_unlock(&pool.lock);
    }
    if (!head) {
        size_t room = index < CLASSES ? class_size(index) : size;
        head = malloc(sizeof *head + room);
        if (!head)
            return NULL;
        head->class_index = index;
    }
    atomic_store_explicit(&head->holders, 1, memory_order_relaxed);
    head->next_slab = head->previous_slab = NULL;
    return head + 1;
}

void *pb_slab_get(size_t size)
{
    buffer_head *slab = pb_buffer_get(size);
    if (!slab)
        return NULL;
    slab--;
    pthread_mutex_lock(&pool.lock);
    slab->previous_slab = &pool.slabs;
    slab->next_slab = pool.slabs.next_slab;
    slab->next_slab->previous_slab = pool.slabs.next_slab = slab;
    pthread_mutex_unlock(&pool.lock);
    return slab + 1;
}

static void unlist_slab(buffer_head *slab)
{
    if (!slab->next_slab)
        return;
    pthread_mutex_lock(&pool.lock);
    slab->next_slab->previous_slab = slab->previous_slab;
    slab->previous_slab->next_slab = slab->next_slab;
    pthread_mutex_unlock(&pool.lock);
}

void pb_buffer_hold(void *buffer)
{
    atomic_fetch_add_explicit(&((buffer_head *)buffer - 1)->holders, 1, memory_order_relaxed);
}

void pb_buffer_put(void *buffer)
{
    if (!buffer)
        return;
    buffer_head *head = (buffer_head *)buffer - 1;
    if (atomic_fetch_sub_explicit(&head->holders, 1, memory_order_acq_rel) > 1)
        return;
    unlist_slab(head);
    size_t index = head->class_index;
    if (index < CLASSES) {
        pthread_mutex_lock(&pool.lock);
        if (pool.kept + class_size(index) <= POOL_CAP) {
            pool.kept += class_size(index);
            head->next = pool.free[index];
            pool.free[index] = head;
            head = NULL;
        }
        pthread_mutex_unlock(&pool.lock);
    }
    free(head);
}
