//! Text for a terminal: colours that carry no meaning alone, and no byte of a host or a file that a terminal would obey.

use std::{borrow::Cow, fmt::Write as _};

use anstyle::{AnsiColor, Style};

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary.
    Plain,
    /// The name of what follows.
    Heading,
    /// Less important than what stands around it.
    Faint,
    /// Added, created, done.
    Good,
    /// Changed, warned about.
    Notice,
    /// Removed, failed.
    Bad,
    /// A place in a diff.
    Place,
}

/// How reports are written.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// With colours.
    pub colour: bool,
    /// Secrets are shown.
    pub show_sensitive: bool,
    /// Steps are shown, and resources that are as they should be.
    pub verbose: bool,
}

impl Look {
    /// Writes a piece of text in a tone.
    pub fn put(self, out: &mut String, tone: Tone, text: &str) {
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Heading => Style::new().bold(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Notice => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Place => AnsiColor::Cyan.on_default(),
        };
        if self.colour && tone != Tone::Plain {
            let _ = write!(out, "{}{text}{}", style.render(), style.render_reset());
        } else {
            out.push_str(text);
        }
    }
}

/// Makes a text harmless for a terminal: control characters, also the invisible ones that reorder text, are written as
/// escapes. A tab is kept.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    let dangerous = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if !text.contains(dangerous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if dangerous(c) {
            let _ = write!(safe, "{}", c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Writes a number with its noun in the right number.
#[must_use]
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Breaks a text into lines of at most `width` columns at spaces; a longer word stands alone.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// Writes rows as columns, each as wide as its widest cell, with two spaces between; the last column is not padded.
#[must_use]
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let n = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..n)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if at + 1 < row.len() {
                    line.extend(std::iter::repeat_n(' ', widths[at] - cell.chars().count() + 2));
                }
            }
            line.trim_end().to_string()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_no_byte_of_a_host() {
        assert_eq!(shown("a\tb"), "a\tb");
        assert_eq!(shown("\x1b[31mred\r\n\u{202e}"), "\\u{1b}[31mred\\r\\n\\u{202e}");
    }

    #[test]
    fn text_is_broken_and_aligned() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), Vec::<String>::new());
        let rows = [vec!["a".into(), "b".into()], vec!["long".into(), "c".into()]];
        assert_eq!(columns(&rows), ["a     b", "long  c"]);
        assert_eq!(count(1, "host"), "1 host");
        assert_eq!(count(0, "host"), "0 hosts");
    }
}
