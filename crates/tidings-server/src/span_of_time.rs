//! Durations as people type them: `30s`, `10m`, `2h`, `1d`.

use std::time::Duration;

/// Parses a whole number with one of the units s, m, h, d.
///
/// # Errors
/// A sentence that shows the form.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 30s, 10m, 2h or 1d");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let unit_s: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let digits = &text[..text.len() - unit.len_utf8()];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(unit_s).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_units() {
        let seconds = |text| parse(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("1d"), Ok(86_400));
    }

    #[test]
    fn everything_else_is_shown_the_form() {
        for bad in ["", "s", "10", "10 m", "+5s", "-5s", "1.5h", "5é", "1w", "999999999999999999d"] {
            assert!(parse(bad).unwrap_err().contains("30s"), "{bad}");
        }
    }
}
