//! The lines of files that change.

use serde::{Deserialize, Serialize};
use similar::{
    ChangeTag, DiffOp,
    algorithms::{Capture, Compact, Replace, myers},
};

use crate::host::{bytes::Bytes, path::AbsPath};

/// Contents longer than this are counted instead of compared, in bytes.
const LARGEST: usize = 1 << 20;

/// The content of a file before and after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileChange {
    /// The file.
    pub path: AbsPath,
    /// Its content; `null` where there is none.
    pub before: Option<Bytes>,
    /// Its content afterwards; `null` where there will be none.
    pub after: Option<Bytes>,
    /// The contents are secret and left out: both are empty, and this is what would be seen of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub withheld: Option<Counted>,
}

/// How many lines change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Lines that are added.
    pub added: usize,
    /// Lines that are removed.
    pub removed: usize,
}

/// Two texts as lines, with the way from one to the other.
#[derive(Debug)]
pub struct Compared<'c> {
    /// The lines before, each with its end.
    pub old: Vec<&'c str>,
    /// The lines afterwards, each with its end.
    pub new: Vec<&'c str>,
    /// The way, in order.
    pub operations: Vec<DiffOp>,
}

impl FileChange {
    /// Compares the contents line by line; `None` where one is no text, or too long.
    #[must_use]
    pub fn compare(&self) -> Option<Compared<'_>> {
        let (old, new) = (text(self.before.as_ref())?, text(self.after.as_ref())?);
        let (old, new): (Vec<&str>, Vec<&str>) =
            (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
        // One algorithm by its name: `TextDiff` chooses one as the program runs, which puts all of them into the binary.
        let mut hook = Compact::new(Replace::new(Capture::new()), &old[..], &new[..]);
        let Ok(()) = myers::diff(&mut hook, &old[..], 0..old.len(), &new[..], 0..new.len());
        let operations = hook.into_inner().into_inner().into_ops();
        Some(Compared { old, new, operations })
    }

    /// Leaves the contents out, but for how many lines of them change.
    pub fn withhold(&mut self) {
        if self.withheld.is_some() {
            return;
        }
        let counted = self.compare().map_or(Counted { added: 0, removed: 0 }, |compared| compared.count());
        self.withheld = Some(counted);
        self.before = self.before.take().map(|_| Bytes::default());
        self.after = self.after.take().map(|_| Bytes::default());
    }
}

impl Compared<'_> {
    /// Counts the lines that change.
    #[must_use]
    pub fn count(&self) -> Counted {
        let changes =
            || self.operations.iter().flat_map(|operation| operation.iter_changes(&self.old[..], &self.new[..]));
        let lines = |tag| changes().filter(|change| change.tag() == tag).count();
        Counted { added: lines(ChangeTag::Insert), removed: lines(ChangeTag::Delete) }
    }
}

fn text(content: Option<&Bytes>) -> Option<&str> {
    content.map_or(Some(""), |content| content.text().filter(|text| text.len() <= LARGEST && !text.contains('\0')))
}
