//! Random numbers that are the same on every machine.

/// The generator xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna
/// (<https://prng.di.unimi.it/xoshiro256plusplus.c>, public domain).
#[derive(Clone, Debug)]
pub struct Xoshiro256PlusPlus([u64; 4]);

impl Xoshiro256PlusPlus {
    /// A generator whose state is filled by SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>), as
    /// its authors advise: any seed will do.
    pub fn new(seed: u64) -> Self {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self([next(), next(), next(), next()])
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number of `[0, 1)`: one of 2⁵³, all as likely.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

/// Numbers of the standard normal distribution, by the transform of Box and Muller ("A note on the
/// generation of random normal deviates", 1958): two numbers from two uniform ones.
#[derive(Clone, Debug)]
pub struct Normals {
    uniform: Xoshiro256PlusPlus,
    /// The second number of the last pair, when it was not taken yet.
    second: Option<f64>,
}

impl Normals {
    /// Numbers that depend on the seed alone.
    pub fn new(seed: u64) -> Self {
        Self {
            uniform: Xoshiro256PlusPlus::new(seed),
            second: None,
        }
    }

    /// The next number.
    pub fn next_f64(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        // The logarithm of 1 − u exists, since u is below 1.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform.next_f64()));
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * self.uniform.next_f64());
        self.second = Some(radius * sine);
        radius * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xoshiro_gives_the_numbers_of_its_authors() {
        let mut generator = Xoshiro256PlusPlus([1, 2, 3, 4]);
        let expected = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
        ];
        assert_eq!(expected.map(|_| generator.next_u64()), expected);
    }

    #[test]
    fn splitmix_gives_the_numbers_of_its_author() {
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
        ];
        assert_eq!(Xoshiro256PlusPlus::new(1_234_567).0, expected);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_their_distribution() {
        let mut normals = Normals::new(1);
        let n = 200_000;
        let mut moments = [0.0; 4];
        for _ in 0..n {
            let x = normals.next_f64();
            for (power, moment) in (1..).zip(&mut moments) {
                *moment += libm::pow(x, f64::from(power)) / f64::from(n);
            }
        }
        // Five standard errors each: 1, √2, √15 and √96 over √n.
        let expected = [(0.0, 1.0), (1.0, 1.42), (0.0, 3.88), (3.0, 9.8)];
        for (moment, (mean, deviation)) in moments.into_iter().zip(expected) {
            let error = (moment - mean).abs();
            assert!(error < 5.0 * deviation / f64::from(n).sqrt(), "{moments:?}");
        }
    }
}
