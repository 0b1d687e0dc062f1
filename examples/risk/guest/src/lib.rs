//! Value at risk and expected shortfall of a portfolio of stocks, from its history and by
//! simulation.
//!
//! The callables capture a [`Portfolio`] and a [`History`], so that the data travels once and each
//! call carries only its own parameters. A native program uses the same crate to read prices
//! ([`Prices`]), and may call the functions directly: all mathematics comes from `libm`, so that
//! the results have the same bits everywhere.
//!
//! # Conventions
//!
//! - A position is an amount of money. The loss of a month with logarithmic returns `r` is the sum
//!   of `amount × (1 − exp(r))` over the positions. A gain is a negative loss.
//! - Value at risk at level `α` of `n` losses is the lower empirical quantile: the loss of rank
//!   `⌈n·α⌉` in ascending order, which is the smallest that at least the share `α` of all losses do
//!   not exceed.
//! - Expected shortfall at level `α` is the average of that quantile over the levels from `α` to 1.
//!   The loss of rank `⌈n·α⌉` counts in it with the part `⌈n·α⌉ − n·α`, those above in full.
//! - The horizon is one month.
#![forbid(unsafe_code)]

mod error;
mod losses;
mod market;
mod prices;
mod random;
mod simulation;

pub use error::RiskError;
pub use losses::{Measures, Tail};
pub use market::{History, Portfolio, Position};
pub use prices::{PriceError, Prices};
pub use random::{Normals, Xoshiro256PlusPlus};
pub use simulation::{Model, PATHS_MAX};

use market::Exposure;
use spore_guest::{Value, callable};

/// What [`value_at_risk()`] answers.
#[derive(Value, Clone, Debug, PartialEq)]
pub struct Report {
    /// What the portfolio is worth: the sum of its amounts.
    pub worth: f64,
    /// Measures over the months of the history.
    pub historical: Measures,
    /// How many months those are.
    pub months: u32,
    /// Measures over the simulated paths.
    pub simulated: Measures,
    /// How many paths those are.
    pub paths: u32,
}

/// The losses that the portfolio would have had in the months of the history.
#[callable]
pub fn historical(
    #[capture] book: &Portfolio,
    #[capture] history: &History,
) -> Result<Measures, RiskError> {
    let exposure = Exposure::new(book, history)?;
    Ok(measure_history(&exposure))
}

/// The losses of the portfolio over `paths` simulated months, drawn from `seed`.
///
/// Returns are normal, with the means and covariances of the history. At most 10,000,000 paths.
#[callable]
pub fn monte_carlo(
    #[capture] book: &Portfolio,
    #[capture] history: &History,
    paths: u32,
    seed: u64,
) -> Result<Measures, RiskError> {
    let exposure = Exposure::new(book, history)?;
    Model::fit(&exposure)?.simulate(paths, seed, spore_guest::progress)
}

/// Both: the losses of the portfolio over its history, and over `paths` simulated months drawn from
/// `seed`.
#[callable]
pub fn value_at_risk(
    #[capture] book: &Portfolio,
    #[capture] history: &History,
    paths: u32,
    seed: u64,
) -> Result<Report, RiskError> {
    let exposure = Exposure::new(book, history)?;
    Ok(Report {
        worth: exposure.worth(),
        historical: measure_history(&exposure),
        months: exposure.months(),
        simulated: Model::fit(&exposure)?.simulate(paths, seed, spore_guest::progress)?,
        paths,
    })
}

fn measure_history(exposure: &Exposure) -> Measures {
    let mut losses: Vec<f64> = exposure
        .returns()
        .map(|returns| exposure.loss(&returns))
        .collect();
    Measures::of(&mut losses).expect("a history that could be exposed to has months")
}
