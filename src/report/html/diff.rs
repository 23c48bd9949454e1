//! A file's change side by side.

use similar::{DiffOp, group_diff_ops};

use super::{escaped, marked};
use crate::{
    plan::lines::{Compared, FileChange},
    report::{diff::CONTEXT, text::count},
};

/// Lines are shown up to this many characters.
const LONGEST: usize = 2_000;

/// So many rows of a file are shown.
const ROWS: usize = 2_000;

/// Writes what changes in a file.
pub fn put(out: &mut String, file: &FileChange, hidden: bool) {
    let path = escaped(file.path.as_str());
    let compared = file.compare();
    if let Some(counted) = file.withheld.or(compared.as_ref().filter(|_| hidden).map(Compared::count)) {
        let (added, removed) = (count(counted.added, "line"), counted.removed);
        out.push_str(&format!(
            "<p><code>{path}</code>: {added} added, {removed} removed <span class=soft>(sensitive, not shown)</span></p>"
        ));
        return;
    }
    let Some(Compared { old, new, operations }) = compared else {
        let size = |content: &Option<crate::host::bytes::Bytes>| content.as_ref().map_or(0, |content| content.0.len());
        let (before, after) = (size(&file.before), size(&file.after));
        out.push_str(&format!(
            "<p><code>{path}</code>: {before} → {after} bytes <span class=soft>(not shown)</span></p>"
        ));
        return;
    };
    let two = file.before.is_some() && file.after.is_some();
    let note = match (&file.before, &file.after) {
        (None, _) => " <span class=soft>(new)</span>",
        (_, None) => " <span class=soft>(removed)</span>",
        _ => "",
    };
    let class = if two { "diff two" } else { "diff" };
    out.push_str(&format!("<table class=\"{class}\"><caption><code>{path}</code>{note}</caption>"));
    let mut rows = Rows { out, two, left: ROWS, old: &old, new: &new };
    for (at, hunk) in group_diff_ops(operations, CONTEXT).iter().enumerate() {
        let first = hunk.first().map_or((0, 0), |one| (one.old_range().start, one.new_range().start));
        if at > 0 || first.0.max(first.1) > 0 {
            rows.gap();
        }
        for operation in hunk {
            rows.operation(operation);
        }
    }
    let left = rows.left;
    if left == 0 {
        out.push_str("<tr class=at><td class=n></td><td class=src colspan=3>… longer than is shown</td></tr>");
    }
    out.push_str("</table>");
}

struct Rows<'o, 't> {
    out: &'o mut String,
    two: bool,
    left: usize,
    old: &'t [&'t str],
    new: &'t [&'t str],
}

impl Rows<'_, '_> {
    fn gap(&mut self) {
        let span = if self.two { 3 } else { 1 };
        self.out.push_str(&format!("<tr class=at><td class=n></td><td class=src colspan={span}>⋯</td></tr>"));
    }

    fn operation(&mut self, operation: &DiffOp) {
        let (old, new) = (operation.old_range(), operation.new_range());
        let rows = if matches!(operation, DiffOp::Equal { .. }) { old.len() } else { old.len().max(new.len()) };
        for row in 0..rows {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let before = (row < old.len()).then(|| (old.start + row, self.old[old.start + row]));
            let after = (row < new.len()).then(|| (new.start + row, self.new[new.start + row]));
            let is_same = matches!(operation, DiffOp::Equal { .. });
            self.out.push_str("<tr>");
            match (before, after) {
                (Some((n, line)), Some((m, other))) if self.two => {
                    let (class, cut) =
                        if is_same { (["same", "same"], None) } else { (["del", "add"], Some(common(line, other))) };
                    self.cell(n, class[0], line, cut, "del");
                    self.cell(m, class[1], other, cut, "ins");
                }
                (before, after) => {
                    if let Some((n, line)) = before {
                        self.cell(n, if is_same { "same" } else { "del" }, line, None, "del");
                    } else if self.two {
                        self.out.push_str("<td class=n></td><td class=none></td>");
                    }
                    if let Some((n, line)) = after.filter(|_| self.two || before.is_none()) {
                        self.cell(n, "add", line, None, "ins");
                    } else if self.two {
                        self.out.push_str("<td class=n></td><td class=none></td>");
                    }
                }
            }
            self.out.push_str("</tr>");
        }
    }

    fn cell(&mut self, n: usize, class: &str, line: &str, cut: Option<(usize, usize)>, tag: &str) {
        let line = line.trim_end_matches('\n');
        let (line, dots) = match line.char_indices().nth(LONGEST) {
            Some((at, _)) => (&line[..at], "…"),
            None => (line, ""),
        };
        let text = match cut {
            Some((start, end)) if start + end > 0 && start + end < line.len() && dots.is_empty() => {
                let (head, rest) = line.split_at(start);
                let (middle, tail) = rest.split_at(rest.len() - end);
                format!("{}<{tag}>{}</{tag}>{}", marked(head), marked(middle), marked(tail))
            }
            _ => marked(line),
        };
        self.out.push_str(&format!("<td class=n>{}</td><td class=\"src {class}\">{text}{dots}</td>", n + 1));
    }
}

/// Returns how many bytes two lines have in common at the beginning and at the end.
fn common(a: &str, b: &str) -> (usize, usize) {
    let (a, b) = (a.trim_end_matches('\n'), b.trim_end_matches('\n'));
    let start: usize = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    (start, end)
}
