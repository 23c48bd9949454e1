//! A plan as Markdown for the comment of a merge request: counts first, details folded, never longer than such a comment may be.

use similar::{ChangeTag, group_diff_ops, udiff::UnifiedHunkHeader};

use super::{
    diff::CONTEXT,
    group::{self, Group},
    plan::{fields, host_counts, notes, resource_words, standing},
    summary::{State, Summary},
    text::{Look, count, shown},
};
use crate::{
    plan::{HostPlan, HostResult, ResourcePlan, Verdict, lines::FileChange},
    resource::Remark,
};

/// The greatest length, in bytes. GitHub takes 65,536 characters.
pub const LONGEST: usize = 64_900;

/// What the words about what was left out may take.
const RESERVE: usize = 3_000;

/// So many groups stand in the table at the beginning.
const ROWS: usize = 60;

/// Names of hosts are cut after so many characters.
const NAME: usize = 160;

/// So many rows of values are shown of a group.
const VALUES: usize = 40;

/// Writes plans. `origin` says where a saved plan comes from, and may be empty.
#[must_use]
pub fn plan(plans: &[HostPlan], origin: &str, look: Look) -> String {
    let summary = Summary::of(plans);
    let groups = group::groups(plans, look);
    let mut told: Vec<&Group<'_>> = groups.iter().filter(|group| is_told(group)).collect();
    // Where something is left out, it is what matters least.
    told.sort_by_key(|group| State::of(&group.shown));
    let mut out = format!("### vprov: {}\n\n", summary.changes().unwrap_or_else(|| "no changes".into()));
    let rest = summary.rest();
    if !rest.is_empty() {
        out.push_str(&format!("{rest}.\n\n"));
    }
    if !origin.is_empty() {
        out.push_str(&format!("{}\n\n", escaped(&cut(origin.trim(), 300))));
    }
    table(&mut out, &told);
    let mut left: Vec<&Group<'_>> = vec![];
    let mut shortened = 0;
    for group in told {
        let room = LONGEST - RESERVE - out.len().min(LONGEST - RESERVE);
        let full = block(group, look, true);
        if full.len() <= room {
            out.push_str(&full);
            continue;
        }
        let short = block(group, look, false);
        if short.len() <= room {
            shortened += 1;
            out.push_str(&short);
        } else {
            left.push(group);
        }
    }
    if shortened > 0 {
        out.push_str(&format!(
            "\n**Left out, because a comment has a limit:** the diffs of {}.",
            count(shortened, "entry").replace("entrys", "entries")
        ));
    }
    if !left.is_empty() {
        let hosts: usize = left.iter().map(|group| group.members.len()).sum();
        let names: Vec<String> = left.iter().take(5).map(|group| cut(&group.name(), 60)).collect();
        let more = if left.len() > 5 { " and more" } else { "" };
        let names = code(&names.join(", "));
        out.push_str(&format!(
            "\n**Left out, because a comment has a limit:** {} ({names}{more}).",
            count(hosts, "host")
        ));
    }
    if shortened > 0 || !left.is_empty() {
        out.push_str(" The page of `vprov show --html` has everything.\n");
    }
    out
}

fn is_told(group: &Group<'_>) -> bool {
    match &group.shown.result {
        HostResult::Planned(planned) => {
            !planned.resources.is_empty() || !planned.orphaned.is_empty() || planned.interrupted.is_some()
        }
        _ => true,
    }
}

fn table(out: &mut String, groups: &[&Group<'_>]) {
    if groups.is_empty() {
        return;
    }
    out.push_str("| | hosts | | |\n|---|---|---:|---|\n");
    for group in groups.iter().take(ROWS) {
        let (sign, word, _) = State::of(&group.shown).words();
        let counts = counts(group);
        let what = if counts.is_empty() { word.to_owned() } else { counts };
        let name = code(&cut(&group.name(), NAME)).replace('|', "\\|");
        out.push_str(&format!("| `{sign}` | {name} | {} | {what} |\n", group.members.len()));
    }
    if groups.len() > ROWS {
        let hosts: usize = groups[ROWS..].iter().map(|group| group.members.len()).sum();
        out.push_str(&format!("| | and {hosts} more | {hosts} | |\n"));
    }
    out.push('\n');
}

fn counts(group: &Group<'_>) -> String {
    match &group.shown.result {
        HostResult::Planned(planned) => host_counts(planned.counts()),
        _ => String::new(),
    }
}

fn block(group: &Group<'_>, look: Look, with_diffs: bool) -> String {
    let mut out = String::from("<details><summary><code>");
    out.push_str(&escaped(&cut(&group.name(), NAME)));
    out.push_str("</code>");
    if group.members.len() > 1 {
        out.push_str(&format!(", {} with the same plan", count(group.members.len(), "host")));
    }
    if !group.columns.is_empty() {
        out.push_str(&format!(" but for {}", count(group.columns.len(), "value")));
    }
    out.push_str(&format!(": {}</summary>\n\n", escaped(&counts(group))));
    match &group.shown.result {
        HostResult::Planned(planned) => {
            values(&mut out, group);
            for resource in &planned.resources {
                put_resource(&mut out, resource, look, with_diffs);
            }
            for orphan in &planned.orphaned {
                let address = code(&orphan.address.to_string());
                out.push_str(&format!("**`o` orphaned** {address}\n\n- {}\n\n", code(standing(orphan))));
            }
        }
        HostResult::Unreachable { error } => fence(&mut out, "", &format!("unreachable: {}", safe_lines(error))),
        HostResult::Failed { error } => fence(&mut out, "", &safe_lines(error)),
    }
    out.push_str("</details>\n\n");
    out
}

fn values(out: &mut String, group: &Group<'_>) {
    for column in group.columns.iter().filter(|column| group.names_itself(column)) {
        out.push_str(&format!("{} is the name of the host.\n\n", column.mark));
    }
    let rows = group.rows();
    if rows.is_empty() {
        return;
    }
    let marks = group.columns.iter().filter(|column| !group.names_itself(column)).map(|column| column.mark.as_str());
    let marks: Vec<&str> = marks.collect();
    out.push_str(&format!("| hosts | {} |\n|---|{}\n", marks.join(" | "), "---|".repeat(marks.len())));
    for (hosts, values) in rows.iter().take(VALUES) {
        let values: Vec<String> = values.iter().map(|value| code(value).replace('|', "\\|")).collect();
        out.push_str(&format!("| {} | {} |\n", code(&cut(hosts, NAME)).replace('|', "\\|"), values.join(" | ")));
    }
    if rows.len() > VALUES {
        out.push_str(&format!("| and {} more | |\n", rows.len() - VALUES));
    }
    out.push('\n');
}

fn put_resource(out: &mut String, resource: &ResourcePlan, look: Look, with_diffs: bool) {
    let (sign, word, _) = resource_words(resource);
    out.push_str(&format!("**`{sign}` {word}** {}\n\n", code(&resource.address.to_string())));
    if let Verdict::Change(change) = &resource.verdict {
        let rows = fields(resource, change, look);
        if !rows.is_empty() {
            let rows: Vec<String> = rows.iter().map(|row| row.join(": ")).collect();
            fence(out, "", &rows.join("\n"));
        }
        for file in change.files.iter().filter(|_| with_diffs) {
            put_file(out, file, resource.sensitive && !look.show_sensitive);
        }
    }
    let mut list: Vec<String> = notes(resource, look).into_iter().map(|(_, text)| code(text.trim())).collect();
    for remark in &resource.remarks {
        match remark {
            Remark::Warning { text, help } => {
                let help = help.as_ref().map(|help| format!(" {}", code(help))).unwrap_or_default();
                list.push(format!("⚠ {}{help}", code(text)));
            }
            Remark::Reboot { attribute, desired, configured, running } => list.push(format!(
                "↻ reboot pending: {}, desired {}, configured {}, running {}",
                code(attribute),
                code(desired),
                code(configured),
                code(running)
            )),
            Remark::Short { attribute, desired, running } => {
                list.push(format!("short: {} is {} of {}", code(attribute), code(running), code(desired)));
            }
        }
    }
    for line in &list {
        out.push_str(&format!("- {line}\n"));
    }
    if !list.is_empty() {
        out.push('\n');
    }
}

fn put_file(out: &mut String, file: &FileChange, hidden: bool) {
    let path = code(file.path.as_str());
    let compared = file.compare();
    let counted = file.withheld.or(compared.as_ref().filter(|_| hidden).map(|compared| compared.count()));
    if let Some(counted) = counted {
        let (added, removed) = (count(counted.added, "line"), counted.removed);
        out.push_str(&format!("{path}: {added} added, {removed} removed (sensitive, not shown)\n\n"));
        return;
    }
    let Some(compared) = compared else {
        out.push_str(&format!("{path}: not text, or too long to be shown\n\n"));
        return;
    };
    let name = |is_there: bool| if is_there { file.path.as_str() } else { "/dev/null" };
    let mut text = format!("--- {}\n+++ {}\n", name(file.before.is_some()), name(file.after.is_some()));
    for hunk in group_diff_ops(compared.operations, CONTEXT) {
        text.push_str(&format!("{}\n", UnifiedHunkHeader::new(&hunk)));
        for part in hunk.iter().flat_map(|operation| operation.iter_changes(&compared.old[..], &compared.new[..])) {
            let sign = match part.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Insert => '+',
                ChangeTag::Delete => '-',
            };
            text.push_str(&format!("{sign}{}\n", shown(part.value().trim_end_matches('\n'))));
        }
    }
    fence(out, "diff", text.trim_end_matches('\n'));
}

/// Writes a block of code whose fence is longer than any in it.
fn fence(out: &mut String, language: &str, text: &str) {
    let ticks = "`".repeat((longest_run(text) + 1).max(3));
    out.push_str(&format!("{ticks}{language}\n{text}\n{ticks}\n\n"));
}

/// Writes a text in one line as code, whatever is in it.
fn code(text: &str) -> String {
    let text = shown(text);
    let ticks = "`".repeat(longest_run(&text) + 1);
    // A backtick at either end needs a space, which Markdown takes away again.
    let space = if text.starts_with('`') || text.ends_with('`') || text.is_empty() { " " } else { "" };
    format!("{ticks}{space}{text}{space}{ticks}")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn safe_lines(text: &str) -> String {
    text.lines().map(|line| shown(line).into_owned()).collect::<Vec<_>>().join("\n")
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    shown(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::Address,
        facts::Facts,
        host::{bytes::Bytes, path::AbsPath},
        plan::{Change, Planned},
        resource::{Disruption, state::Action},
    };

    fn host(name: &str, content: &str) -> HostPlan {
        let path = AbsPath::known("/etc/a");
        let files = vec![FileChange { path, before: None, after: Some(Bytes::from(content)), withheld: None }];
        let change = Change {
            action: Action::Create,
            fields: vec![],
            steps: vec![],
            needs: vec![],
            files,
            disturbs: Disruption::Nothing,
            connection: false,
            reversible: true,
            because: vec![],
        };
        let resource = ResourcePlan {
            address: Address::new("file", "/etc/a|`b`"),
            verdict: Verdict::Change(change),
            remarks: vec![Remark::warning("a <b> ``` c")],
            from_facts: Default::default(),
            overridden: Default::default(),
            restores: Default::default(),
            sensitive: false,
        };
        let planned = Planned {
            facts: Box::new(Facts::default()),
            resources: vec![resource],
            uploaded: None,
            interrupted: None,
            orphaned: vec![],
            probes: vec![],
        };
        HostPlan { host: name.into(), result: HostResult::Planned(planned) }
    }

    const LOOK: Look = Look { colour: false, show_sensitive: false, verbose: false };

    #[test]
    fn counts_come_first_and_nothing_of_a_host_is_obeyed() {
        let text = plan(&[host("a1", "x\n```\n</details>\n"), host("a2", "x\n```\n</details>\n")], "", LOOK);
        assert!(text.starts_with("### vprov: 2 to create on 2 hosts\n"), "{text}");
        assert!(text.contains("| `~` | `a[1,2]` | 2 | 1 change, 1 with a warning |"), "{text}");
        assert!(
            text.contains("````diff\n--- /dev/null\n+++ /etc/a\n@@ -0,0 +1,3 @@\n+x\n+```\n+</details>\n````\n"),
            "{text}"
        );
        assert!(text.contains("``file[/etc/a|`b`]``") && text.contains("````a <b> ``` c````"), "{text}");
    }

    #[test]
    fn it_is_never_too_long_and_says_what_was_left_out() {
        let large: Vec<HostPlan> =
            (0..300).map(|at| host(&format!("h{}", "x".repeat(at)), &format!("{at}\n").repeat(at * 7 + 1))).collect();
        let text = plan(&large, "", LOOK);
        assert!(text.len() < 65_000 && text.len() > 50_000, "{}", text.len());
        assert!(text.contains("**Left out, because a comment has a limit:**"), "{text}");
        assert_eq!(text.matches("<details>").count(), text.matches("\n</details>\n").count());
        let one = plan(&[host("a", &"é\n".repeat(50_000))], "", LOOK);
        assert!(one.len() < 65_000 && one.contains("the diffs of 1 entry"), "{one}");
    }
}
