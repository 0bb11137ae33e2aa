//! Pictures of numbers in a terminal: bars and sparklines, plain where nobody can see colours.

use std::io::{self, IsTerminal};

/// How pictures are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// Block elements and colours, else `#` and none.
    pub(super) rich: bool,
}

/// A colour of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Green,
    Yellow,
    Red,
    Bold,
    Faint,
}

impl Style {
    /// Rich on a terminal that does not say `NO_COLOR`.
    pub(super) fn of_stdout() -> Self {
        Self { rich: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// A bar of up to `width` characters for a share between 0 and 1; never empty for something.
    pub(super) fn bar(self, share: f64, width: usize) -> String {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        if !self.rich {
            let cells = (share * width as f64).round() as usize;
            return "#".repeat(cells.max(usize::from(share > 0.0)));
        }
        let eighths = (share * width as f64 * 8.0).round() as usize;
        let eighths = eighths.max(usize::from(share > 0.0));
        let mut bar = "█".repeat(eighths / 8);
        bar.extend(
            [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'].get(eighths % 8).filter(|c| **c != ' '),
        );
        bar
    }

    /// One character a value, as high as the value is.
    pub(super) fn sparkline(self, values: &[u64]) -> String {
        let levels: &[char] = match self.rich {
            true => &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            false => &['.', ':', '-', '=', '+', '*', '%', '#'],
        };
        let most = values.iter().copied().max().unwrap_or(0).max(1);
        let level = |value: u64| {
            let at = u128::from(value) * levels.len() as u128 / (u128::from(most) + 1);
            levels.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or(' ')
        };
        values.iter().map(|v| if *v == 0 { ' ' } else { level(*v) }).collect()
    }

    /// Coloured words.
    pub(super) fn paint(self, paint: Paint, words: &str) -> String {
        let code = match paint {
            Paint::Green => "32",
            Paint::Yellow => "33",
            Paint::Red => "1;31",
            Paint::Bold => "1",
            Paint::Faint => "2",
        };
        match self.rich {
            true => format!("\u{1b}[{code}m{words}\u{1b}[0m"),
            false => words.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_share_and_never_vanish() {
        let (rich, plain) = (Style { rich: true }, Style { rich: false });
        assert_eq!(rich.bar(0.5, 10), "█████");
        assert_eq!(rich.bar(0.01, 10), "▏");
        assert_eq!(rich.bar(0.56, 10), "█████▋");
        assert_eq!([plain.bar(0.0, 10), plain.bar(0.001, 10), plain.bar(9.0, 3)], ["", "#", "###"]);
        assert_eq!(plain.bar(f64::NAN, 10), "");
    }

    #[test]
    fn sparklines_reach_from_nothing_to_the_most() {
        assert_eq!(Style { rich: true }.sparkline(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!(Style { rich: false }.sparkline(&[0, 1, 4, 8]), " .=#");
        assert_eq!(Style { rich: true }.sparkline(&[0, 0]), "  ");
        assert_eq!(Style { rich: true }.sparkline(&[u64::MAX]), "█");
    }
}
