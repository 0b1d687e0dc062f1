//! Losses over simulated months.

use crate::market::Exposure;
use crate::random::Normals;
use crate::{Measures, RiskError};

/// Most paths of one simulation. The losses of all are held until they are ranked, at 8 bytes each.
pub const PATHS_MAX: u32 = 10_000_000;

/// Paths between two reports of progress.
const PATHS_PER_REPORT: u32 = 50_000;

/// Least variance that a position must add to those before it, as a share of its mean squared
/// return. Rounding alone leaves about 1e-16 of a position that adds nothing.
const UNEXPLAINED_MIN: f64 = 1e-12;

/// Normal returns with the means and covariances of a history.
#[derive(Debug)]
pub struct Model<'a> {
    exposure: &'a Exposure<'a>,
    means: Vec<f64>,
    /// Lower triangle of the Cholesky factor of the covariances, row by row.
    factor: Vec<Vec<f64>>,
}

impl<'a> Model<'a> {
    /// Estimates means and covariances (over `n − 1`), and factors the covariances.
    pub(crate) fn fit(exposure: &'a Exposure<'a>) -> Result<Self, RiskError> {
        let returns: Vec<Vec<f64>> = exposure.returns().collect();
        let means = means(&returns);
        let covariances = covariances(&returns, &means);
        let squares = means.iter().zip(&covariances).map(|(mean, row)| {
            let variance = row.last().copied().unwrap_or_default();
            mean * mean + variance
        });
        let least: Vec<f64> = squares.map(|square| square * UNEXPLAINED_MIN).collect();
        let factor = cholesky(&covariances, &least).map_err(|(position, unexplained)| {
            let symbol = exposure.symbol(position).to_owned();
            RiskError::SingularCovariance {
                symbol,
                unexplained,
            }
        })?;
        Ok(Self {
            exposure,
            means,
            factor,
        })
    }

    /// Draws `paths` months from `seed` and measures their losses. `progress` is told how many of
    /// all paths are done.
    pub(crate) fn simulate(
        &self,
        paths: u32,
        seed: u64,
        progress: impl Fn(u64, u64),
    ) -> Result<Measures, RiskError> {
        let bad = RiskError::BadPaths {
            paths,
            limit: PATHS_MAX,
        };
        if paths > PATHS_MAX {
            return Err(bad);
        }
        let mut normals = Normals::new(seed);
        let mut independent = vec![0.0; self.means.len()];
        let mut returns = vec![0.0; self.means.len()];
        let mut losses = Vec::with_capacity(paths as usize);
        for path in 0..paths {
            if path % PATHS_PER_REPORT == 0 {
                progress(path.into(), paths.into());
            }
            independent.fill_with(|| normals.next_f64());
            self.correlate(&independent, &mut returns);
            losses.push(self.exposure.loss(&returns));
        }
        progress(paths.into(), paths.into());
        Measures::of(&mut losses).ok_or(bad)
    }

    /// Turns independent normal numbers into returns.
    fn correlate(&self, independent: &[f64], returns: &mut [f64]) {
        for ((r, mean), row) in returns.iter_mut().zip(&self.means).zip(&self.factor) {
            *r = row
                .iter()
                .zip(independent)
                .fold(*mean, |sum, (l, z)| sum + l * z);
        }
    }
}

fn means(returns: &[Vec<f64>]) -> Vec<f64> {
    let columns = returns.first().map_or(0, Vec::len);
    let mean = |c: usize| returns.iter().map(|row| row[c]).sum::<f64>() / returns.len() as f64;
    (0..columns).map(mean).collect()
}

/// Lower triangle of the sample covariances, row by row.
fn covariances(returns: &[Vec<f64>], means: &[f64]) -> Vec<Vec<f64>> {
    let covariance = |i: usize, j: usize| {
        let products = returns
            .iter()
            .map(|row| (row[i] - means[i]) * (row[j] - means[j]));
        products.sum::<f64>() / (returns.len() - 1) as f64
    };
    (0..means.len())
        .map(|i| (0..=i).map(|j| covariance(i, j)).collect())
        .collect()
}

/// The lower triangle `L` with `L Lᵀ` = `matrix`, a lower triangle itself.
///
/// Where those above a row leave no more than `least` of it: its position, and what they leave.
fn cholesky(matrix: &[Vec<f64>], least: &[f64]) -> Result<Vec<Vec<f64>>, (usize, f64)> {
    let mut factor: Vec<Vec<f64>> = Vec::with_capacity(matrix.len());
    for (i, row) in matrix.iter().enumerate() {
        let mut entries = Vec::with_capacity(i + 1);
        for (j, above) in factor.iter().enumerate() {
            let dot = dot(&entries, above);
            entries.push((row[j] - dot) / above[j]);
        }
        let unexplained = row[i] - dot(&entries, &entries);
        // Written so that what is not a number is refused as well.
        let enough = unexplained > least[i];
        if !enough {
            return Err((i, unexplained));
        }
        entries.push(libm::sqrt(unexplained));
        factor.push(entries);
    }
    Ok(factor)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{History, Portfolio};

    #[test]
    fn the_factor_of_a_known_matrix() {
        let matrix = [vec![4.0], vec![12.0, 37.0], vec![-16.0, -43.0, 98.0]];
        let factor = [vec![2.0], vec![6.0, 1.0], vec![-8.0, 5.0, 3.0]];
        assert_eq!(cholesky(&matrix, &[0.0; 3]).unwrap(), factor);
    }

    #[test]
    fn covariances_of_a_known_sample() {
        let returns = [vec![1.0, 2.0], vec![2.0, 4.0], vec![3.0, 9.0]];
        let means = means(&returns);
        assert_eq!(means, [2.0, 5.0]);
        assert_eq!(covariances(&returns, &means), [vec![1.0], vec![3.5, 13.0]]);
    }

    /// As printed by `check/historical.py`, with 50 digits until they were rounded.
    #[test]
    fn covariances_of_the_stocks_agree_with_exact_arithmetic() {
        let csv = include_str!("../../data/stocks.csv");
        let history = crate::Prices::parse(csv).unwrap().history().unwrap();
        let book = Portfolio::example();
        let exposure = Exposure::new(&book, &history).unwrap();
        let model = Model::fit(&exposure).unwrap();
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-12;

        let means = [
            0.00370439255141287,
            0.0181664549394996,
            0.00707191258763216,
            0.0253683927010063,
            0.0382007359710425,
        ];
        for (found, expected) in model.means.iter().zip(means) {
            assert!(close(*found, expected), "{found} {expected}");
        }
        let covariances = [
            vec![0.00493452466737491],
            vec![0.00370887806580032, 0.0184715011031189],
            vec![
                0.00132705309364331,
                0.00422461545938037,
                0.00393351684857059,
            ],
            vec![
                0.00353949593331120,
                0.00493254458131121,
                0.00170950609512011,
                0.0127729241373129,
            ],
            vec![
                0.00402055460290351,
                0.00515937725772296,
                0.00311371221764684,
                0.00805231339495118,
                0.0160370749145049,
            ],
        ];
        // The factor times itself is what it was made of.
        for (i, row) in covariances.iter().enumerate() {
            for (j, expected) in row.iter().enumerate() {
                let found = dot(&model.factor[i], &model.factor[j]);
                assert!(close(found, *expected), "{i} {j}: {found} {expected}");
            }
        }
    }

    fn history(returns: &[[f64; 2]]) -> History {
        History {
            symbols: vec!["A".to_owned(), "B".to_owned()],
            months: vec![String::new(); returns.len()],
            returns: returns.iter().map(|month| month.to_vec()).collect(),
        }
    }

    #[test]
    fn a_position_that_follows_from_another_is_named() {
        let book = Portfolio::new([("A", 1.0), ("B", 1.0)]);
        for returns in [
            [[0.1, 0.2], [0.05, 0.1], [-0.3, -0.6]],
            [[0.1, 0.7], [0.05, 0.7], [-0.3, 0.7]],
        ] {
            let history = history(&returns);
            let exposure = Exposure::new(&book, &history).unwrap();
            let error = Model::fit(&exposure).unwrap_err();
            let RiskError::SingularCovariance {
                symbol,
                unexplained,
            } = error
            else {
                panic!("{error:?}");
            };
            assert_eq!(symbol, "B");
            assert!(unexplained.abs() < 1e-15, "{unexplained}");
        }
    }

    /// A single position has a lognormal worth, whose quantiles and tail means have closed forms.
    #[test]
    fn a_single_position_has_the_measures_of_a_lognormal_worth() {
        let history = history(&[[0.02, 0.0], [-0.05, 0.0], [0.09, 0.0], [0.01, 0.0]]);
        let book = Portfolio::new([("A", 1000.0)]);
        let exposure = Exposure::new(&book, &history).unwrap();
        let model = Model::fit(&exposure).unwrap();
        let (mean, deviation) = (model.means[0], model.factor[0][0]);
        let measures = model.simulate(400_000, 7, |_, _| {}).unwrap();

        let phi = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        // Quantiles of the standard normal distribution at 5 % and 1 %.
        for (tail, z, beyond) in [
            (measures.at_95, -1.644_853_626_951_472_2, 0.05),
            (measures.at_99, -2.326_347_874_040_840_8, 0.01),
        ] {
            let value_at_risk = 1000.0 * (1.0 - libm::exp(mean + deviation * z));
            let growth = libm::exp(mean + deviation * deviation / 2.0);
            let expected_shortfall = 1000.0 * (1.0 - growth * phi(z - deviation) / beyond);
            let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.01;
            assert!(
                close(tail.value_at_risk, value_at_risk),
                "{tail:?} {value_at_risk}"
            );
            assert!(
                close(tail.expected_shortfall, expected_shortfall),
                "{tail:?} {expected_shortfall}"
            );
        }
    }

    #[test]
    fn paths_are_bounded_and_told() {
        let history = history(&[[0.02, 0.0], [-0.05, 0.1], [0.09, 0.0]]);
        let book = Portfolio::new([("A", 1.0), ("B", 1.0)]);
        let exposure = Exposure::new(&book, &history).unwrap();
        let model = Model::fit(&exposure).unwrap();
        for paths in [0, PATHS_MAX + 1] {
            let error = model.simulate(paths, 1, |_, _| {}).unwrap_err();
            assert_eq!(
                error,
                RiskError::BadPaths {
                    paths,
                    limit: PATHS_MAX
                }
            );
        }
        let told = std::cell::RefCell::new(Vec::new());
        model
            .simulate(120_000, 1, |done, total| {
                told.borrow_mut().push((done, total))
            })
            .unwrap();
        let expected = [0, 50_000, 100_000, 120_000].map(|done| (done, 120_000));
        assert_eq!(*told.borrow(), expected);
    }
}
