//! The search: simulated annealing over reversals of parts of a tour.

use crate::City;
use crate::random::SplitMix64;

/// The temperature at the beginning and at the end, in lengths of an average way from city to city
/// of the first tour. The first is where tours take a shape, the last where nothing changes any
/// more; between the two it falls by the same factor from round to round.
const TEMPERATURES: (f64, f64) = (0.2, 0.002);

/// A search for a short tour.
pub(crate) struct Annealing<'a> {
    cities: &'a [City],
    order: Vec<u32>,
    random: SplitMix64,
    /// The average way from city to city of the first tour
    scale: f64,
}

impl<'a> Annealing<'a> {
    /// Begins with the cities in the order in which they are listed.
    pub(crate) fn new(cities: &'a [City], random: SplitMix64) -> Self {
        let mut annealing = Self {
            cities,
            order: (0..cities.len() as u32).collect(),
            random,
            scale: 0.0,
        };
        annealing.scale = annealing.length() / cities.len().max(1) as f64;
        annealing
    }

    /// Takes so many steps at the temperature of this moment, from 0 at the beginning to 1 at the
    /// end.
    pub(crate) fn round(&mut self, steps: u64, moment: f64) {
        // Fewer have no other tour.
        if self.cities.len() < 4 {
            return;
        }
        let (first, last) = TEMPERATURES;
        let temperature = self.scale * first * libm::pow(last / first, moment);
        for _ in 0..steps {
            self.step(temperature);
        }
    }

    /// Tries to go through a part of the tour the other way round.
    fn step(&mut self, temperature: f64) {
        let count = self.order.len() as u32;
        let (one, other) = (self.random.below(count), self.random.below(count));
        let (begin, end) = (one.min(other) as usize, one.max(other) as usize);
        if begin == end {
            return;
        }
        // The part begins after `begin` and ends with `end`.
        let (before, first) = (self.order[begin], self.order[begin + 1]);
        let (last, after) = (self.order[end], self.order[(end + 1) % self.order.len()]);
        let longer = self.way(before, last) + self.way(first, after)
            - self.way(before, first)
            - self.way(last, after);
        if longer <= 0.0 || self.random.next_f64() < libm::exp(-longer / temperature) {
            self.order[begin + 1..=end].reverse();
        }
    }

    /// The length of the tour.
    pub(crate) fn length(&self) -> f64 {
        let next = self.order.iter().cycle().skip(1);
        let ways = self.order.iter().zip(next);
        ways.map(|(one, other)| self.way(*one, *other)).sum()
    }

    pub(crate) fn into_order(self) -> Vec<u32> {
        self.order
    }

    fn way(&self, one: u32, other: u32) -> f64 {
        let (one, other) = (self.cities[one as usize], self.cities[other as usize]);
        let (x, y) = (one.x - other.x, one.y - other.y);
        libm::sqrt(x * x + y * y)
    }
}
