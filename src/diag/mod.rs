//! What a person wrote wrong, as data: what it is, where it stands and what would be right.
//!
//! Phases collect diagnostics instead of stopping at the first one. Nothing here prints; [`Diagnostics::render`] gives
//! text and [`Diagnostics::to_json`] data.

mod render;
mod source;
mod suggest;

pub use render::Shown;
pub use source::{LineColumn, Source, SourceId, SourceMap, Span};
pub use suggest::{did_you_mean, suggestion};

/// How much a diagnostic weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is done.
    Error,
    /// Probably not what was meant; the work goes on.
    Warning,
}

impl Severity {
    /// Returns the word that reports show.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place with a remark; the remark may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is to be said about it.
    pub text: String,
}

/// One thing that is wrong, or probably wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the work.
    pub severity: Severity,
    /// What is wrong: a lowercase fragment without a final period, literals in backticks.
    pub summary: String,
    /// The places concerned; the first one is where the diagnostic stands.
    pub labels: Vec<Label>,
    /// What would be right, one sentence or fragment each.
    pub help: Vec<String>,
    /// The hosts for which it was found; empty where it holds for all.
    pub hosts: Vec<String>,
}

impl Diagnostic {
    /// Returns an error without a place.
    #[must_use]
    pub fn error(summary: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            summary: summary.into(),
            labels: Vec::new(),
            help: Vec::new(),
            hosts: Vec::new(),
        }
    }

    /// Returns a warning without a place.
    #[must_use]
    pub fn warning(summary: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(summary) }
    }

    /// Adds a place; the first one added is where the diagnostic stands.
    #[must_use]
    pub fn at(self, span: Span) -> Self {
        self.label(span, "")
    }

    /// Adds a place with a remark.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds what would be right.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds "did you mean" if one of the candidates is near to what was written.
    #[must_use]
    pub fn suggest<'c>(self, name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Self {
        match suggestion(name, candidates) {
            Some(text) => self.help(text),
            None => self,
        }
    }

    /// Says for which host it was found.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// Returns where it stands.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        self.labels.first().map(|label| label.span)
    }
}

/// What a phase found, in the order found; [`Diagnostics::sort`] orders by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Returns an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Adds all of another list.
    pub fn append(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    /// Tells whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Iterates over them.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Says for all that name no host yet for which host they were found.
    #[must_use]
    pub fn for_host(mut self, host: &str) -> Self {
        for diagnostic in &mut self.list {
            if diagnostic.hosts.is_empty() {
                diagnostic.hosts.push(host.to_owned());
            }
        }
        self
    }

    /// Lets all that stand in another file stand here; their own places are shown beside.
    pub fn stand_at(&mut self, place: Span) {
        for diagnostic in &mut self.list {
            if diagnostic.span().is_none_or(|span| span.source != place.source) {
                diagnostic.labels.insert(0, Label { span: place, text: String::new() });
            }
        }
    }

    /// Returns the value and the warnings if there is no error, else everything.
    ///
    /// # Errors
    /// The whole list if it holds an error.
    pub fn or<T>(self, value: T) -> Result<(T, Self), Self> {
        if self.has_errors() { Err(self) } else { Ok((value, self)) }
    }

    /// Orders by file (in the order read), line and column, joins those that differ only in their hosts, and drops
    /// repetitions. Those without a place come first.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.span().map(|span| (span.source, span.start, span.end)), d.severity);
            key(a).cmp(&key(b)).then_with(|| a.summary.cmp(&b.summary))
        });
        self.list.dedup_by(|later, kept| {
            let same = later.severity == kept.severity
                && later.summary == kept.summary
                && later.labels == kept.labels
                && later.help == kept.help;
            if same && !kept.hosts.is_empty() {
                if later.hosts.is_empty() {
                    kept.hosts.clear();
                } else {
                    kept.hosts.append(&mut later.hosts);
                }
            }
            same
        });
        for diagnostic in &mut self.list {
            let mut seen = std::collections::HashSet::new();
            diagnostic.hosts.retain(|host| seen.insert(host.clone()));
        }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { list: vec![diagnostic] }
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        self.list.extend(diagnostics);
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(diagnostics: I) -> Self {
        Self { list: diagnostics.into_iter().collect() }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_on_several_hosts_is_said_once() {
        let map = SourceMap::new();
        let id = map.add("a.yaml", "a\nb\n");
        let (first, second) = (Span::new(id, 0..1), Span::new(id, 2..3));
        let mut all: Diagnostics = [
            Diagnostic::error("two").at(second).host("h2"),
            Diagnostic::error("one").at(first).host("h1"),
            Diagnostic::error("two").at(second).host("h1"),
            Diagnostic::error("two").at(second).host("h2"),
            Diagnostic::error("none"),
        ]
        .into_iter()
        .collect();
        all.sort();
        let words: Vec<_> = all.iter().map(|d| (d.summary.as_str(), d.hosts.join(" "))).collect();
        assert_eq!(words, [("none", String::new()), ("one", "h1".into()), ("two", "h2 h1".into())]);
    }
}
