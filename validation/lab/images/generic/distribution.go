package main

import (
	"math"
	"math/rand/v2"
)

// Distribution of a duration in seconds, with the field names of the scenario's own; empty: zero.
type Distribution struct {
	Kind      string    `json:"kind"`
	Value     float64   `json:"value_s"`
	Min       float64   `json:"min_s"`
	Max       float64   `json:"max_s"`
	Scale     float64   `json:"scale_s"`
	Median    float64   `json:"median_s"`
	P95       float64   `json:"p95_s"`
	Quantiles []float64 `json:"quantiles_s"`
	Shift     float64   `json:"shift_s"` // added to every draw, never below zero
}

const z95 = 1.6448536269514722 // 95 % quantile of the standard normal

// Draw gives one duration. [s]
func (d Distribution) Draw() float64 { return math.Max(0, d.draw()+d.Shift) }

func (d Distribution) draw() float64 {
	switch d.Kind {
	case "Constant":
		return d.Value
	case "Uniform":
		return d.Min + (d.Max-d.Min)*rand.Float64()
	case "Exponential":
		return d.Scale * rand.ExpFloat64()
	case "LogNormal":
		return d.Median * math.Exp(math.Log(d.P95/d.Median)/z95*rand.NormFloat64())
	case "Empirical":
		place := rand.Float64() * float64(len(d.Quantiles)-1)
		below := min(int(place), len(d.Quantiles)-2)
		if below < 0 {
			return d.Quantiles[0]
		}
		return d.Quantiles[below] + (d.Quantiles[below+1]-d.Quantiles[below])*(place-float64(below))
	}
	return 0
}
