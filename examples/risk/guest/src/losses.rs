//! Measures of a set of losses.

use spore_guest::Value;

/// The measures of one set of losses.
#[derive(Value, Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// At a level of 95 %: what one month in twenty goes beyond.
    pub at_95: Tail,
    /// At a level of 99 %: what one month in a hundred goes beyond.
    pub at_99: Tail,
}

/// The measures of one tail, in the currency of the portfolio.
#[derive(Value, Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// The loss that is not exceeded with the probability of the level.
    pub value_at_risk: f64,
    /// The average loss beyond the level.
    pub expected_shortfall: f64,
}

impl Measures {
    /// The measures of these losses, which may be left in another order; `None` when there are
    /// none.
    pub fn of(losses: &mut [f64]) -> Option<Self> {
        let rank = rank(losses.len(), 95)?;
        // What stands below both levels need not be in order.
        losses.select_nth_unstable_by(rank - 1, f64::total_cmp);
        losses[rank - 1..].sort_unstable_by(f64::total_cmp);
        Some(Self {
            at_95: Tail::of(losses, 95)?,
            at_99: Tail::of(losses, 99)?,
        })
    }
}

impl Tail {
    /// The tail above `percent`, of losses that ascend from that rank on.
    fn of(losses: &[f64], percent: usize) -> Option<Self> {
        let rank = rank(losses.len(), percent)?;
        let value_at_risk = losses[rank - 1];
        // In hundredths of a loss, so that no level has to be rounded.
        let above: f64 = losses[rank..].iter().sum();
        let part = (100 * rank - percent * losses.len()) as f64;
        let share = ((100 - percent) * losses.len()) as f64;
        let expected_shortfall = (part * value_at_risk + 100.0 * above) / share;
        Some(Self {
            value_at_risk,
            expected_shortfall,
        })
    }
}

/// `⌈n · percent / 100⌉`, from 1 to `n`; `None` when `n` is 0.
fn rank(n: usize, percent: usize) -> Option<usize> {
    (n > 0).then(|| (n * percent).div_ceil(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_round_up_and_are_exact() {
        assert_eq!(rank(0, 95), None);
        assert_eq!(rank(1, 95), Some(1));
        assert_eq!(rank(20, 95), Some(19));
        assert_eq!(rank(67, 95), Some(64));
        assert_eq!(rank(67, 99), Some(67));
        assert_eq!(rank(1_000_000, 95), Some(950_000));
    }

    #[test]
    fn a_hundred_losses_in_any_order() {
        // 1 to 100, mixed by a step that has no divisor in common with 100.
        let mut losses: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100 + 1)).collect();
        let measures = Measures::of(&mut losses).unwrap();
        assert_eq!(
            measures.at_95,
            Tail {
                value_at_risk: 95.0,
                expected_shortfall: 98.0
            }
        );
        assert_eq!(
            measures.at_99,
            Tail {
                value_at_risk: 99.0,
                expected_shortfall: 100.0
            }
        );
    }

    #[test]
    fn a_level_within_a_loss_takes_its_part() {
        // Half of the greatest of ten losses lies beyond 95 %.
        let mut losses: Vec<f64> = (1..=10).map(f64::from).collect();
        let measures = Measures::of(&mut losses).unwrap();
        assert_eq!(
            measures.at_95,
            Tail {
                value_at_risk: 10.0,
                expected_shortfall: 10.0
            }
        );
        // Of thirty, the 29th with half its weight and the 30th in full.
        let mut losses: Vec<f64> = (1..=30).map(f64::from).collect();
        let tail = Measures::of(&mut losses).unwrap().at_95;
        assert_eq!(tail.value_at_risk, 29.0);
        assert!((tail.expected_shortfall - (0.5 * 29.0 + 30.0) / 1.5).abs() < 1e-12);
    }

    #[test]
    fn no_losses_have_no_measures() {
        assert_eq!(Measures::of(&mut []), None);
    }
}
