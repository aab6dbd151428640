package pool

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"
)

func capacitiesOf(pools []PoolOptions) []Capacity {
	forms := make([]Capacity, len(pools))
	for i, p := range pools {
		forms[i] = p.Capacity
	}
	return forms
}

func TestPresetCapacitiesAreThoseOfTheTable(t *testing.T) {
	// In declared order: public, world agents, world node, world masters; each in, out (POOL-42).
	for _, c := range []struct {
		name      string
		worldNode bool
		budget    int
		want      []int
	}{
		{"agent 100", false, 100, []int{12, 12, 36, 36, 1, 1, 1, 1}},
		{"agent 1000", false, 1000, []int{124, 124, 373, 373, 1, 1, 1, 3}},
		{"agent 8", false, 8, []int{1, 1, 1, 1, 1, 1, 1, 1}},
		{"world 100", true, 100, []int{12, 12, 25, 25, Unbounded, Unbounded, 12, 14}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Capacities(c.budget, capacitiesOf(PresetPools(c.worldNode)))
			must(t, err)
			if !slices.Equal(got, c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestTheBudgetIsDividedExactly(t *testing.T) {
	for _, c := range []struct {
		name   string
		budget int
		pools  []Capacity
		want   []int
	}{
		{"one ratio gets all", 7, []Capacity{Ratio(1)}, []int{7}},
		{"thirds leave a remainder to the last", 10, []Capacity{Ratio(1. / 3), Ratio(1. / 3), Ratio(1. / 3)}, []int{3, 3, 4}},
		{"slots come first", 10, []Capacity{Slots(4), Ratio(.5), Ratio(.5)}, []int{4, 3, 3}},
		{"the remainder skips disabled and unlimited pools", 10, []Capacity{Ratio(.55), Ratio(.45), Disabled(), Unlimited()}, []int{5, 5, 0, Unbounded}},
		{"a small ratio still gets one place", 10, []Capacity{Ratio(.01), Ratio(.99)}, []int{1, 9}},
		{"without ratios the last slots pool gets the rest", 10, []Capacity{Slots(2), Slots(3)}, []int{2, 8}},
		{"no pool in the budget keeps nothing", 3, []Capacity{Unlimited(), Disabled()}, []int{Unbounded, 0}},
		{"floor is taken in doubles without an epsilon", 100, []Capacity{Ratio(.29), Ratio(.71)}, []int{28, 72}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Capacities(c.budget, c.pools)
			must(t, err)
			if !slices.Equal(got, c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestCapacitiesThatDoNotAddUpAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		budget int
		pools  []Capacity
	}{
		"fewer connections than pools":      {1, []Capacity{Ratio(.5), Ratio(.5)}},
		"negative budget":                   {-1, nil},
		"absurd budget":                     {MaxBudget + 1, []Capacity{Ratio(1)}},
		"ratios below 1":                    {10, []Capacity{Ratio(.5), Ratio(.4)}},
		"ratios above 1":                    {10, []Capacity{Ratio(.5), Ratio(.6)}},
		"ratios off by more than 1e-9":      {10, []Capacity{Ratio(.5), Ratio(.5 + 2e-9)}},
		"ratio of 0":                        {10, []Capacity{Ratio(0), Ratio(1)}},
		"ratio above 1":                     {10, []Capacity{Ratio(1.5)}},
		"negative ratio":                    {10, []Capacity{Ratio(-.5), Ratio(1)}},
		"ratio that is no number":           {10, []Capacity{Ratio(math.NaN())}},
		"slots of 0":                        {10, []Capacity{Slots(0), Ratio(1)}},
		"negative slots":                    {10, []Capacity{Slots(-3), Ratio(1)}},
		"more slots than connections":       {10, []Capacity{Slots(6), Slots(5)}},
		"slots whose sum overflows":         {10, []Capacity{Slots(math.MaxInt), Slots(math.MaxInt)}},
		"slots that leave no place to give": {4, []Capacity{Slots(4), Ratio(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Capacities(c.budget, c.pools)
			if !errors.Is(err, ErrArgument) {
				t.Fatalf("got %v and error %v", got, err)
			}
		})
	}
}

func TestRatiosMayMissOneByRounding(t *testing.T) {
	_, err := Capacities(10, []Capacity{Ratio(.5), Ratio(.5 + 5e-10)})
	must(t, err)
}

func TestCapacityFormsInJSON(t *testing.T) {
	for text, want := range map[string]Capacity{
		`0.0`: Disabled(), `0`: Disabled(), `-1`: Unlimited(), `-0.5`: Unlimited(), `0.25`: Ratio(.25), `1`: Ratio(1),
		`"unlimited"`: Unlimited(), `"disabled"`: Disabled(), `{"slots":3}`: Slots(3), `{"ratio":0.5}`: Ratio(.5),
	} {
		var got Capacity
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %+v and error %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{`"all"`, `{}`, `{"slots":1,"ratio":1}`, `[1]`, `true`, `{"slots":1.5}`, `{"slots":"1"}`} {
		var got Capacity
		if err := json.Unmarshal([]byte(text), &got); !errors.Is(err, ErrArgument) {
			t.Errorf("%s: got %+v and error %v", text, got, err)
		}
	}
}
