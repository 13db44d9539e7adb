// Prices in closed form: old bounds as special cases of this one, and starts for better prices.
#pragma once

#include <functional>
#include <vector>

#include "tiering/bound/ascent.h"
#include "tiering/bound/evaluation.h"

namespace kvtier::bound {

// The best of
//  * each resource alone in all phases (compute alone: the sum of floors);
//  * the roofline: shares in proportion to the rates of the resources that blocks load, of all or
//  of
//    all but one;
//  * of these, in each phase the one whose loads take longest there;
//  * those of them that promise most, with one room price for a tier in all phases: none of it is
//    bound by the time of a tier that takes everything, and it is what interval bounds of caching
//    use (PFOO-L: Berger, Beckmann, Harchol-Balter, 2018);
//  * that of a tier which is left out of the shares at what reads through the rest take, in those
//    phases whose reads it cannot hold.
// Takes some forty hard evaluations; `go_on`, asked after each unless it is empty, ends that by
// returning false.
Priced BestSpecialPrices(Evaluator& evaluator, const std::function<bool()>& go_on);

// The roofline alone: no placement and no limit of room makes a phase shorter than its cheapest
// loads spread over all resources, nor all of them shorter than what is computed; the better of the
// two.
Priced RooflinePrices(Evaluator& evaluator);

}  // namespace kvtier::bound
