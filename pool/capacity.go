package pool

import (
	"encoding/json"
	"fmt"
	"math"
)

// Unbounded is the capacity of an unlimited pool; the hard limit of its network still holds.
const Unbounded = -1

// ratioTolerance is how far the ratios may miss the sum of 1.
const ratioTolerance = 1e-9

type capacityForm uint8

const (
	formDisabled capacityForm = iota
	formUnlimited
	formRatio
	formSlots
)

// Capacity says how much of the connection budget a pool gets (POOL-03). The zero value is a disabled pool.
type Capacity struct {
	form  capacityForm
	ratio float64
	slots int
}

// Ratio is a share of what the slots leave, 0 < r <= 1.
func Ratio(r float64) Capacity { return Capacity{form: formRatio, ratio: r} }

// Slots is a fixed number of places, at least 1.
func Slots(n int) Capacity { return Capacity{form: formSlots, slots: n} }

// Unlimited is a pool outside the budget.
func Unlimited() Capacity { return Capacity{form: formUnlimited} }

// Disabled is a pool without places.
func Disabled() Capacity { return Capacity{} }

// PlainCapacity reads the plain numeric form: 0 is disabled, a negative number unlimited, else a ratio.
func PlainCapacity(number float64) Capacity {
	switch {
	case number == 0:
		return Disabled()
	case number < 0:
		return Unlimited()
	}
	return Ratio(number)
}

// UnmarshalJSON takes the plain numeric form, "unlimited", "disabled", {"ratio": r} or {"slots": n}.
func (c *Capacity) UnmarshalJSON(data []byte) error {
	var number float64
	if json.Unmarshal(data, &number) == nil && string(data) != "null" {
		*c = PlainCapacity(number)
		return nil
	}
	var word string
	if json.Unmarshal(data, &word) == nil {
		return c.fromWord(word)
	}
	var object struct {
		Ratio *float64 `json:"ratio"`
		Slots *int     `json:"slots"`
	}
	switch err := json.Unmarshal(data, &object); {
	case err != nil:
	case object.Ratio != nil && object.Slots == nil:
		*c = Ratio(*object.Ratio)
		return nil
	case object.Slots != nil && object.Ratio == nil:
		*c = Slots(*object.Slots)
		return nil
	}
	return fmt.Errorf("%w: capacity %.64s is none of a number, \"unlimited\", \"disabled\", {\"ratio\": r}, {\"slots\": n}", ErrArgument, data)
}

func (c *Capacity) fromWord(word string) error {
	switch word {
	case "unlimited":
		*c = Unlimited()
	case "disabled":
		*c = Disabled()
	default:
		return fmt.Errorf("%w: capacity %.64q; the words are \"unlimited\" and \"disabled\"", ErrArgument, word)
	}
	return nil
}

func (c Capacity) check() error {
	switch {
	case c.form == formRatio && !(c.ratio > 0 && c.ratio <= 1):
		return fmt.Errorf("ratio %v is not above 0 and at most 1", c.ratio)
	case c.form == formSlots && (c.slots < 1 || c.slots > MaxBudget):
		return fmt.Errorf("%d slots; at least 1 and at most %d can be reserved", c.slots, MaxBudget)
	}
	return nil
}

// share is what the pool gets of the budget before the remainder is given away.
func (c Capacity) share(free int) int {
	switch c.form {
	case formRatio:
		return max(int(math.Floor(c.ratio*float64(free))), 1)
	case formSlots:
		return c.slots
	}
	return 0
}

// Capacities divides a budget of connections among pools in their declared order (POOL-02, POOL-05). Unlimited pools get
// Unbounded.
func Capacities(budget int, pools []Capacity) ([]int, error) {
	reserved, err := checkBudget(budget, pools)
	if err != nil {
		return nil, err
	}
	answer := make([]int, len(pools))
	total, last := 0, -1
	for i, c := range pools {
		answer[i] = c.share(budget - reserved)
		total += answer[i]
		switch c.form {
		case formUnlimited:
			answer[i] = Unbounded
		case formRatio, formSlots:
			last = i
		}
	}
	if total > budget {
		return nil, fmt.Errorf("%w: the pools need %d connections, max_connections is %d", ErrArgument, total, budget)
	}
	if last >= 0 {
		answer[last] += budget - total
	}
	return answer, nil
}

// checkBudget answers the sum of the slots.
func checkBudget(budget int, pools []Capacity) (reserved int, err error) {
	if budget > MaxBudget {
		return 0, fmt.Errorf("%w: max_connections %d, at most %d are managed", ErrArgument, budget, MaxBudget)
	}
	if budget < len(pools) {
		return 0, fmt.Errorf("%w: max_connections %d is below the number of pools, %d", ErrArgument, budget, len(pools))
	}
	ratios, sum := 0, 0.0
	for i, c := range pools {
		if err := c.check(); err != nil {
			return 0, fmt.Errorf("%w: capacity of pool %d: %v", ErrArgument, i, err)
		}
		if c.form == formRatio {
			ratios++
			sum += c.ratio
		}
		// Checked on the way: a sum of slots cannot overflow.
		if reserved += c.slots; reserved > budget {
			return 0, fmt.Errorf("%w: the slots reserve %d connections or more, max_connections is %d", ErrArgument, reserved, budget)
		}
	}
	if ratios > 0 && math.Abs(sum-1) > ratioTolerance {
		return 0, fmt.Errorf("%w: the ratios sum to %v instead of 1", ErrArgument, sum)
	}
	return reserved, nil
}
