//! Durations and sizes as people write them in `authorized_keys`, in `spore.toml` and at the command
//! line: `500ms`, `10s`, `64MiB`.

use std::time::Duration;

/// Shortest time that can be written, but for none at all.
pub const DURATION_MIN: Duration = Duration::from_millis(1);

const DURATION_UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("", 1),
];

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// Reads a duration such as `10s`, in whole hours, minutes, seconds or milliseconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    scaled(text, DURATION_UNITS).map(Duration::from_millis)
}

/// Reads a size such as `64MiB`, or a number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    scaled(text, SIZE_UNITS)
}

fn in_units(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| number.is_multiple_of(*factor) && number > 0;
    let (unit, factor) = units.iter().find(fits).unwrap_or(&units[units.len() - 1]);
    format!("{}{unit}", number / factor)
}

/// Writes a duration in the largest unit that is exact, milliseconds at the least.
pub fn duration_text(duration: Duration) -> String {
    in_units(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        DURATION_UNITS,
    )
}

/// Writes a size in the largest unit that is exact.
pub fn size_text(bytes: u64) -> String {
    in_units(bytes, SIZE_UNITS)
}

/// A whole number and its unit. Signs are not numbers.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Reads a whole number without a unit.
pub fn parse_count(text: &str) -> Option<u32> {
    let (number, unit) = number_and_unit(text)?;
    if unit.is_empty() {
        u32::try_from(number).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for ms in [0, 1, 999, 1_000, 60_000, 3_600_000, 90_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
        }
        for bytes in [0, 1, 1 << 10, 3 << 20, 1 << 30, u64::MAX] {
            assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "s", "-1s", "1.5s", "1d", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["", "MiB", "1MB", "-1", "18446744073709551615KiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
