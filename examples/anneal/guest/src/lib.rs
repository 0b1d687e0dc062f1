//! A short tour through many cities, by simulated annealing: a run that takes long, and that can be
//! stopped after each round, saved, and continued on another host.
//!
//! All that it rests on are its captures and arguments, and its mathematics are those of `libm`: the
//! same steps give the same tour, bit for bit, in Wasm and in a native program, on every machine.
#![forbid(unsafe_code)]

mod annealing;
mod random;

use annealing::Annealing;
use random::SplitMix64;
use spore_guest::prelude::*;

/// Steps from one checkpoint to the next, some ten microseconds of work.
const STEPS_PER_ROUND: u64 = 1000;

/// The side of the square in which [`cities()`] lie.
const SIDE: f64 = 100.0;

/// Where a city lies.
#[derive(Value, Clone, Copy, Debug, PartialEq)]
pub struct City {
    /// To the east
    pub x: f64,
    /// To the north
    pub y: f64,
}

/// A way through all cities and back to the first.
#[derive(Value, Clone, Debug, PartialEq)]
pub struct Tour {
    /// The cities, each by its place in the list that was captured
    pub order: Vec<u32>,
    /// The length
    pub length: f64,
    /// The length of the tour in the order of that list, which the search began with
    pub length_before: f64,
}

/// So many cities, strewn over a square with sides of 100.
#[callable]
pub fn cities(count: u32, seed: u64) -> Vec<City> {
    let mut random = SplitMix64::new(seed);
    let mut place = || SIDE * random.next_f64();
    (0..count)
        .map(|_| City {
            x: place(),
            y: place(),
        })
        .collect()
}

/// A short tour through the captured cities, found in so many steps.
#[callable]
pub async fn tour(#[capture] cities: &[City], steps: u64, seed: u64) -> Tour {
    let mut annealing = Annealing::new(cities, SplitMix64::new(seed));
    let length_before = annealing.length();
    let mut done = 0;
    while done < steps {
        let round = STEPS_PER_ROUND.min(steps - done);
        annealing.round(round, done as f64 / steps as f64);
        done += round;
        progress(done, steps);
        checkpoint().await;
    }
    Tour {
        length: annealing.length(),
        length_before,
        order: annealing.into_order(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spore_guest::native::block_on;

    fn sorted(tour: &Tour) -> Vec<u32> {
        let mut order = tour.order.clone();
        order.sort_unstable();
        order
    }

    #[test]
    fn a_tour_of_a_circle_is_the_circle() {
        let count = 50_u32;
        let angle = |n: u32| std::f64::consts::TAU * f64::from(n) / f64::from(count);
        // Each city is eleven further than the one before.
        let circle: Vec<City> = (0..count)
            .map(|n| City {
                x: libm::cos(angle(11 * n % count)),
                y: libm::sin(angle(11 * n % count)),
            })
            .collect();
        let tour = block_on(tour(&circle, 500_000, 1));
        assert_eq!(sorted(&tour), Vec::from_iter(0..count));
        let expected = 2.0 * f64::from(count) * libm::sin(angle(1) / 2.0);
        assert!((tour.length / expected - 1.0).abs() < 1e-12, "{tour:?}");
    }

    #[test]
    fn a_tour_through_200_cities_is_nearly_the_shortest() {
        let cities = cities(200, 7);
        let tour = block_on(tour(&cities, 2_000_000, 1));
        assert_eq!(sorted(&tour), Vec::from_iter(0..200));
        // The shortest through n points in a square of area A nears 0.7124 √(n A) as n grows
        // (Beardwood, Halton and Hammersley, 1959; the constant is that of Johnson and McGeoch). With
        // few it is longer by some percent, since the square has a rim.
        let many = 0.7124 * libm::sqrt(200.0 * SIDE * SIDE);
        assert!((1.0..1.15).contains(&(tour.length / many)), "{tour:?}");
        assert!(tour.length_before > 4.0 * tour.length, "{tour:?}");
    }

    #[test]
    fn a_tour_through_few_cities_or_one_place_is_found() {
        for count in 0..4 {
            let tour = block_on(tour(&cities(count, 7), 10_000, 1));
            assert_eq!(sorted(&tour), Vec::from_iter(0..count));
            let unlike = (tour.length - tour.length_before).abs();
            assert!(unlike < 1e-9, "there is one tour only: {tour:?}");
        }
        let place = City { x: 1.0, y: 2.0 };
        let tour = block_on(tour(&[place; 9], 10_000, 1));
        assert_eq!(sorted(&tour), Vec::from_iter(0..9));
        assert_eq!(tour.length, 0.0);
    }

    #[test]
    fn without_steps_the_tour_stays_as_it_was() {
        let tour = block_on(tour(&cities(20, 7), 0, 1));
        assert_eq!(tour.order, Vec::from_iter(0..20));
        assert_eq!(tour.length, tour.length_before);
    }

    /// To the last bit, whatever the machine.
    #[test]
    fn a_tour_is_the_same_on_every_machine() {
        let tour = block_on(tour(&cities(200, 7), 100_000, 1));
        assert_eq!(tour.length_before, 10898.643800164793);
        assert_eq!(tour.length, 1255.4704373774275);
    }
}
