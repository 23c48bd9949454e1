//! Files and other texts that a person wrote, and places in them.

use std::{
    ops::Range,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use serde::Serialize;

/// A source of a [`SourceMap`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// A range of bytes of one source. It is empty where only a position is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The source.
    pub source: SourceId,
    /// The offset of the first byte.
    pub start: u32,
    /// The offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// Takes a range of bytes. Offsets beyond 4 GiB become 4 GiB; no loader takes such a file.
    #[must_use]
    pub fn new(source: SourceId, range: Range<usize>) -> Self {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { source, start: clamp(range.start), end: clamp(range.end.max(range.start)) }
    }

    /// Returns a span of a part of this one, by byte offsets from its start; what lies outside is cut off.
    #[must_use]
    pub fn part(self, range: Range<usize>) -> Self {
        let at = |offset: usize| self.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX)).min(self.end);
        Self { source: self.source, start: at(range.start), end: at(range.end.max(range.start)) }
    }
}

/// Where a span begins or ends, as people count: lines and columns (characters) from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct LineColumn {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// A file, or a text such as the value of an option, under the name by which messages call it.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: Arc<str>,
    /// Offsets of the first bytes of all lines, found when first asked for.
    lines: OnceLock<Vec<u32>>,
}

impl Source {
    /// Returns the name that messages show: the path as the user gave it, or an option such as `--set`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Returns line and column of a byte offset.
    #[must_use]
    pub fn line_column(&self, offset: usize) -> LineColumn {
        let offset = self.floor(offset);
        let line = self.line_of(offset);
        let start = self.lines()[line] as usize;
        LineColumn { line: line + 1, column: self.text[start..offset].chars().count() + 1 }
    }

    /// Returns the range of bytes of the lines that hold a range, without the last line's end.
    pub(super) fn whole_lines(&self, range: Range<usize>) -> (usize, Range<usize>) {
        let first = self.line_of(self.floor(range.start));
        let last = self.line_of(self.floor(range.end.max(range.start)));
        let start = self.lines()[first] as usize;
        let end = self.lines().get(last + 1).map_or(self.text.len(), |&next| next as usize - 1);
        (first + 1, start..end.max(start))
    }

    /// Returns the greatest offset not above the given one at which a character begins.
    pub(super) fn floor(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset.min(self.text.len()))
    }

    fn line_of(&self, offset: usize) -> usize {
        self.lines().partition_point(|&start| start as usize <= offset).saturating_sub(1)
    }

    fn lines(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX))).collect()
        })
    }
}

/// All sources of a run. It only grows, so a [`SourceId`] stays valid; it is shared by reference or [`Arc`].
#[derive(Debug, Default)]
pub struct SourceMap {
    sources: RwLock<Vec<Arc<Source>>>,
    /// What no excerpt shows.
    hidden: RwLock<Vec<Span>>,
}

impl SourceMap {
    /// Returns a map without sources.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text under the name that messages will show.
    pub fn add(&self, name: impl Into<String>, text: impl Into<Arc<str>>) -> SourceId {
        let source = Source { name: name.into(), text: text.into(), lines: OnceLock::new() };
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.push(Arc::new(source));
        SourceId(u32::try_from(sources.len() - 1).unwrap_or(u32::MAX))
    }

    /// Returns a source; `None` only for an identifier of another map.
    #[must_use]
    pub fn get(&self, id: SourceId) -> Option<Arc<Source>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).get(id.0 as usize).cloned()
    }

    /// Lets no excerpt show what stands at a place: a secret that a person wrote there.
    pub fn hide(&self, span: Span) {
        self.hidden.write().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    /// Returns a part of a source as an excerpt shows it: what is hidden is as many asterisks as it has bytes.
    pub(super) fn excerpt(&self, id: SourceId, source: &Source, range: Range<usize>) -> String {
        let mut text = source.text[range.clone()].to_owned();
        for span in self.hidden.read().unwrap_or_else(PoisonError::into_inner).iter().filter(|span| span.source == id) {
            let start = source.floor(span.start as usize).clamp(range.start, range.end) - range.start;
            let end = source.floor(span.end as usize).clamp(range.start, range.end) - range.start;
            if start < end {
                text.replace_range(start..end, &"*".repeat(end - start));
            }
        }
        text
    }

    /// Returns the text of a span.
    #[must_use]
    pub fn slice(&self, span: Span) -> Option<String> {
        let source = self.get(span.source)?;
        source.text.get(span.start as usize..span.end as usize).map(str::to_owned)
    }

    /// Returns a span as `FILE:LINE:COLUMN`.
    #[must_use]
    pub fn place(&self, span: Span) -> String {
        match self.get(span.source) {
            Some(source) => {
                let LineColumn { line, column } = source.line_column(span.start as usize);
                format!("{}:{line}:{column}", source.name)
            }
            None => "?:0:0".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let map = SourceMap::new();
        let id = map.add("a.yaml", "é: 1\n\nüx: 2\n");
        let check = |start: usize, place: &str| assert_eq!(map.place(Span::new(id, start..start)), place);
        check(0, "a.yaml:1:1");
        check(2, "a.yaml:1:2");
        check(6, "a.yaml:2:1");
        check(7, "a.yaml:3:1");
        check(9, "a.yaml:3:2");
        check(14, "a.yaml:4:1");
        check(1000, "a.yaml:4:1");
        assert_eq!(map.slice(Span::new(id, 9..10)).as_deref(), Some("x"));
        assert_eq!(map.slice(Span::new(id, 1..2)), None);
        map.hide(Span::new(id, 4..12));
        let source = map.get(id).unwrap();
        assert_eq!(map.excerpt(id, &source, 0..5), "é: *");
        assert_eq!(map.excerpt(id, &source, 7..13), "*****2");
    }
}
