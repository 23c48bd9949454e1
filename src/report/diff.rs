//! Unified diffs of files, made from what a plan writes.

use similar::{ChangeTag, group_diff_ops, udiff::UnifiedHunkHeader};

use super::text::{Look, Tone, count, shown};
use crate::{
    host::bytes::Bytes,
    plan::lines::{Compared, Counted, FileChange},
};

/// How many lines around a change are shown.
pub const CONTEXT: usize = 3;

/// Lines are shown up to this many characters.
const LONGEST: usize = 2000;

/// Writes what changes in a file, each line behind `indent`.
pub fn put(out: &mut String, look: Look, indent: &str, change: &FileChange, sensitive: bool) {
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    if before == after && change.withheld.is_none() {
        return;
    }
    let compared = change.compare();
    let counted = change.withheld.or(match &compared {
        Some(compared) if sensitive && !look.show_sensitive => Some(compared.count()),
        _ => None,
    });
    if let Some(Counted { added, removed }) = counted {
        let added = count(added, "line");
        let text = format!("{}: {added} added, {removed} removed (sensitive, not shown)", change.path);
        line(out, look, indent, Tone::Faint, &text);
        return;
    }
    let Some(Compared { old, new, operations }) = compared else {
        let size = |content: Option<&Bytes>| content.map_or(0, |content| content.0.len());
        line(out, look, indent, Tone::Faint, &format!("{}: {} → {} bytes", change.path, size(before), size(after)));
        return;
    };
    let name = |content: Option<&Bytes>| content.map_or("/dev/null", |_| change.path.as_str());
    line(out, look, indent, Tone::Faint, &format!("--- {}", name(before)));
    line(out, look, indent, Tone::Faint, &format!("+++ {}", name(after)));
    for hunk in group_diff_ops(operations, CONTEXT) {
        line(out, look, indent, Tone::Place, &UnifiedHunkHeader::new(&hunk).to_string());
        for part in hunk.iter().flat_map(|operation| operation.iter_changes(&old[..], &new[..])) {
            let (sign, tone) = match part.tag() {
                ChangeTag::Equal => (' ', Tone::Plain),
                ChangeTag::Insert => ('+', Tone::Good),
                ChangeTag::Delete => ('-', Tone::Bad),
            };
            line(out, look, indent, tone, &format!("{sign}{}", part.value().trim_end_matches('\n')));
            if !part.value().ends_with('\n') {
                line(out, look, indent, Tone::Faint, "\\ No newline at end of file");
            }
        }
    }
}

fn line(out: &mut String, look: Look, indent: &str, tone: Tone, text: &str) {
    out.push_str(indent);
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => {
            let more = text[cut..].chars().count();
            look.put(out, tone, &shown(&text[..cut]));
            look.put(out, Tone::Faint, &format!("… ({more} more characters)"));
        }
        None => look.put(out, tone, &shown(text)),
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::path::AbsPath;

    fn check(before: Option<&str>, after: Option<&str>, sensitive: bool, expected: &str) {
        let change = FileChange {
            path: AbsPath::known("/etc/a"),
            before: before.map(Bytes::from),
            after: after.map(Bytes::from),
            withheld: None,
        };
        let look = Look { colour: false, show_sensitive: false, verbose: false };
        let mut out = String::new();
        put(&mut out, look, "  ", &change, sensitive);
        assert_eq!(out, expected);
    }

    #[test]
    fn a_diff_is_unified() {
        check(
            Some("a\nb"),
            Some("a\nc\n"),
            false,
            "  --- /etc/a\n  +++ /etc/a\n  @@ -1,2 +1,2 @@\n   a\n  -b\n  \\ No newline at end of file\n  +c\n",
        );
        check(None, Some("x\n"), false, "  --- /dev/null\n  +++ /etc/a\n  @@ -0,0 +1 @@\n  +x\n");
        check(Some("x\n"), Some("x\n"), false, "");
    }

    #[test]
    fn a_line_without_end_has_one() {
        let line = "x".repeat(LONGEST);
        let expected =
            format!("  --- /dev/null\n  +++ /etc/a\n  @@ -0,0 +1 @@\n  +{}… (3 more characters)\n", &line[1..]);
        check(None, Some(&format!("{line}yz\n")), false, &expected);
    }

    #[test]
    fn a_secret_is_counted() {
        check(Some("a\n"), Some("b\nc\n"), true, "  /etc/a: 2 lines added, 1 removed (sensitive, not shown)\n");
    }
}
