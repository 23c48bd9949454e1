//! Diagnostics as text with the line shown, and as data for `--json`.

use std::{borrow::Cow, fmt::Write as _, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::{Diagnostic, Diagnostics, Label, LineColumn, Severity, SourceId, SourceMap};

/// At most this many bytes of a line are shown.
const LINE: usize = 400;

/// At most this many hosts of one diagnostic are named.
const HOSTS: usize = 3;

/// A diagnostic as data, for `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `error` or `warning`.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The file or option, if there is a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// Other places concerned, each with a remark.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    /// What would be right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
    /// The hosts for which it was found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// A further place of a [`Shown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// The file or option.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is to be said about it.
    pub message: String,
}

impl Diagnostics {
    /// Returns all of them as text, an empty line between each two; ends with a newline unless there is none.
    #[must_use]
    pub fn render(&self, sources: &SourceMap, colour: bool) -> String {
        self.iter().map(|diagnostic| diagnostic.render(sources, colour)).collect::<Vec<_>>().join("\n")
    }

    /// Returns all of them as data.
    #[must_use]
    pub fn to_json(&self, sources: &SourceMap) -> Vec<Shown> {
        self.iter().map(|diagnostic| diagnostic.to_json(sources)).collect()
    }
}

impl Diagnostic {
    /// Returns the diagnostic as text. Its first line is `FILE:LINE:COLUMN: error: what is wrong`.
    #[must_use]
    pub fn render(&self, sources: &SourceMap, colour: bool) -> String {
        let mut text = String::new();
        let place = self.span().map_or(String::new(), |span| format!("{}: ", sources.place(span)));
        let word = self.severity.word();
        let (style, bold) = match (colour, self.severity) {
            (false, _) => (anstyle::Style::new(), anstyle::Style::new()),
            (true, Severity::Error) => (anstyle::AnsiColor::Red.on_default().bold(), anstyle::Style::new().bold()),
            (true, Severity::Warning) => (anstyle::AnsiColor::Yellow.on_default().bold(), anstyle::Style::new().bold()),
        };
        let _ = writeln!(
            text,
            "{bold}{}{bold:#}{style}{word}{style:#}{bold}: {}{bold:#}",
            printable(&place),
            printable(&self.summary)
        );
        let pieces = pieces(&self.labels, sources);
        let help: Vec<String> = self.help.iter().map(|help| printable(help).into_owned()).chain(self.on()).collect();
        let mut group = Group::with_level(match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        });
        for piece in &pieces {
            let mut snippet = Snippet::source(piece.text.as_str()).line_start(piece.line);
            if piece.is_other {
                snippet = snippet.path(piece.name.as_str());
            }
            for (range, kind, remark) in &piece.marks {
                let mark = kind.span(range.clone());
                snippet = snippet.annotation(if remark.is_empty() { mark } else { mark.label(remark.as_ref()) });
            }
            group = group.element(snippet);
        }
        if pieces.is_empty() {
            for help in &help {
                let _ = writeln!(text, "  = help: {help}");
            }
            return text;
        }
        for help in &help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        text.push_str(&renderer.render(&[group]));
        text.push('\n');
        text
    }

    /// Returns the diagnostic as data.
    #[must_use]
    pub fn to_json(&self, sources: &SourceMap) -> Shown {
        let place = |label: &Label| {
            let source = sources.get(label.span.source)?;
            Some((source.name().to_owned(), source.line_column(label.span.start as usize)))
        };
        let (file, at) = self.labels.first().and_then(place).unzip();
        Shown {
            severity: self.severity,
            message: self.summary.clone(),
            file,
            line: at.map(|at| at.line),
            column: at.map(|at| at.column),
            related: self
                .labels
                .iter()
                .skip(1)
                .filter_map(|label| {
                    let (file, LineColumn { line, column }) = place(label)?;
                    Some(Related { file, line, column, message: label.text.clone() })
                })
                .collect(),
            help: self.help.clone(),
            hosts: self.hosts.clone(),
        }
    }

    fn on(&self) -> Option<String> {
        let named = self.hosts.iter().take(HOSTS).map(|host| format!("`{host}`")).collect::<Vec<_>>().join(", ");
        match self.hosts.len() {
            0 => None,
            n if n <= HOSTS => Some(format!("found for host {named}")),
            n => Some(format!("found for hosts {named} and {} more", n - HOSTS)),
        }
    }
}

/// Lines of one source with everything that is to be marked in them.
struct Piece<'l> {
    source: SourceId,
    name: String,
    is_other: bool,
    line: usize,
    text: String,
    /// Where the text stands in the source.
    range: Range<usize>,
    marks: Vec<(Range<usize>, AnnotationKind, Cow<'l, str>)>,
}

fn pieces<'l>(labels: &'l [Label], sources: &SourceMap) -> Vec<Piece<'l>> {
    let mut pieces: Vec<Piece<'l>> = Vec::new();
    for (n, label) in labels.iter().enumerate() {
        let Some(source) = sources.get(label.span.source) else { continue };
        let start = source.floor(label.span.start as usize);
        let end = source.floor(label.span.end as usize).max(start);
        // One line is enough to find the place; a span of many lines is a whole map or list.
        let end = source.text()[start..end].find('\n').map_or(end, |at| start + at);
        let (line, mut range) = source.whole_lines(start..start);
        if range.len() > LINE {
            let from = source.floor(start.saturating_sub(LINE / 4)).max(range.start);
            range = from..source.floor(from + LINE).min(range.end).max(from);
        }
        let end = end.min(range.end).max(start);
        let kind = if n == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let remark = printable(&label.text);
        if let Some(piece) = pieces.iter_mut().find(|piece| piece.source == label.span.source && piece.range == range) {
            let at = start - range.start..end - range.start;
            piece.marks.push((at, kind, remark));
            continue;
        }
        pieces.push(Piece {
            source: label.span.source,
            name: source.name().to_owned(),
            is_other: n > 0,
            line,
            text: sources.excerpt(label.span.source, &source, range.clone()).trim_end_matches('\r').to_owned(),
            marks: vec![(start - range.start..end - range.start, kind, remark)],
            range,
        });
    }
    // A mark behind a trimmed carriage return would lie outside of the text.
    for piece in &mut pieces {
        for (range, _, _) in &mut piece.marks {
            *range = range.start.min(piece.text.len())..range.end.min(piece.text.len());
        }
    }
    pieces
}

/// Shows control characters, which could steer a terminal, as their escapes.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    fn check(text: &str, marks: &[(Range<usize>, &str)], shown: &str) {
        let map = SourceMap::new();
        let id = map.add("hosts.yaml", text);
        let mut diagnostic = Diagnostic::error("it is wrong").help("write it right");
        for (range, remark) in marks {
            diagnostic = diagnostic.label(Span::new(id, range.clone()), *remark);
        }
        assert_eq!(diagnostic.render(&map, false), shown);
    }

    #[test]
    fn the_line_is_shown_with_a_caret() {
        check(
            "a: 1\nb: [x, y]\n",
            &[(9..10, "this one")],
            "hosts.yaml:2:5: error: it is wrong\n  |\n2 | b: [x, y]\n  |     ^ this one\n  |\n  = help: write it right\n",
        );
        check("a: 1\n", &[], "error: it is wrong\n  = help: write it right\n");
    }

    #[test]
    fn no_text_and_no_place_makes_it_panic() {
        for text in ["", "\r\n", "é\r\nx", &"ä".repeat(1000), "\u{1b}[31mred", "a\tb"] {
            let map = SourceMap::new();
            let id = map.add("x\u{1b}.yaml", text);
            for start in [0, 1, 2, 3, 999, 5000] {
                for len in [0, 1, 700] {
                    let label = Span::new(id, start..start + len);
                    let diagnostic = Diagnostic::warning("\u{1b}").label(label, "é").label(Span::new(id, 0..1), "");
                    let text = diagnostic.render(&map, true);
                    assert!(!text.contains("\u{1b}[31mred") && text.contains("x\\u{1b}.yaml:"), "{text}");
                    assert_eq!(diagnostic.to_json(&map).related.len(), 1);
                }
            }
        }
    }

    #[test]
    fn the_data_has_line_and_column() {
        let map = SourceMap::new();
        let id = map.add("hosts.yaml", "a: 1\n");
        let shown = Diagnostic::error("no").at(Span::new(id, 3..4)).to_json(&map);
        let json = serde_json::to_string(&shown).unwrap();
        assert_eq!(json, r#"{"severity":"error","message":"no","file":"hosts.yaml","line":1,"column":4}"#);
    }
}
