//! Prime numbers without end: a generator that can be stopped between any two numbers, saved, and
//! continued on another host.
#![forbid(unsafe_code)]

use spore_guest::prelude::*;

/// All prime numbers, each when its caller is ready for it.
#[callable]
pub async fn primes(items: Emitter<u64>) {
    let mut found = Vec::new();
    for n in 2.. {
        if is_prime(n, &found) {
            found.push(n);
            items.emit(n).await;
        }
        checkpoint().await;
    }
}

/// Whether none of the primes before `n` divides it.
fn is_prime(n: u64, before: &[u64]) -> bool {
    let mut possible = before.iter().take_while(|prime| *prime * *prime <= n);
    possible.all(|prime| !n.is_multiple_of(*prime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use spore_guest::native::Items;

    #[test]
    fn the_primes_are_those_of_eratosthenes() {
        const LIMIT: usize = 10_000;
        let mut sieve = [true; LIMIT];
        let mut expected = Vec::new();
        for n in 2..LIMIT {
            if sieve[n] {
                expected.push(n as u64);
                sieve[n..].iter_mut().step_by(n).for_each(|it| *it = false);
            }
        }
        let found: Vec<u64> = Items::of(primes)
            .take_while(|prime| *prime < LIMIT as u64)
            .collect();
        assert_eq!(found, expected);
    }
}
