//! Hosts of which the same is told, once: those with the same plan, and those with the same plan but for a few values.
//!
//! What is told of a host is its plan without what nobody reads (guards, digests, what is as declared). Two such faces with
//! the same shape that differ only in words of contents and values are one face with marks in their places.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{redact, text::Look};
use crate::{
    config::fold,
    host::{
        bytes::Digest,
        op::{Op, Undo},
    },
    plan::{HostPlan, HostResult, Planned, ResourcePlan, Verdict},
};

/// Up to so many values may differ between plans that are shown as one.
const COLUMNS: usize = 4;

/// The longest value that is put into a table, in characters.
const LONGEST: usize = 80;

/// The leaves that may differ; everything else makes another plan.
const FREE: [&str; 12] = [
    "before",
    "after",
    "content",
    "value",
    "text",
    "desired",
    "configured",
    "running",
    "target",
    "argv",
    "error",
    "reason",
];

/// Hosts that are shown as one.
#[derive(Debug)]
pub struct Group<'p> {
    /// Their plans, in the order of the inventory.
    pub members: Vec<&'p HostPlan>,
    /// What is shown of them, with a mark where their values differ. Its facts are those of the first.
    pub shown: HostPlan,
    /// The values that differ.
    pub columns: Vec<Column>,
}

/// A value that differs between the hosts of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What stands in its place.
    pub mark: String,
    /// The value of each member.
    pub values: Vec<String>,
}

impl Group<'_> {
    /// Returns the names of all members in few words.
    #[must_use]
    pub fn name(&self) -> String {
        fold::fold(self.members.iter().map(|plan| plan.host.as_str())).join(",")
    }

    /// Returns the rows of the table of values: the hosts in few words, and their values. A column that only repeats the
    /// names of the hosts is none; see [`Group::names_itself`].
    #[must_use]
    pub fn rows(&self) -> Vec<(String, Vec<&str>)> {
        let told: Vec<&Column> = self.columns.iter().filter(|column| !self.names_itself(column)).collect();
        if told.is_empty() {
            return vec![];
        }
        let mut order: Vec<(Vec<&str>, Vec<&str>)> = vec![];
        let mut places: HashMap<Vec<&str>, usize> = HashMap::new();
        for (at, plan) in self.members.iter().enumerate() {
            let values: Vec<&str> = told.iter().map(|column| column.values[at].as_str()).collect();
            let place = *places.entry(values.clone()).or_insert_with(|| {
                order.push((values, vec![]));
                order.len() - 1
            });
            order[place].1.push(&plan.host);
        }
        order.into_iter().map(|(values, hosts)| (fold::fold(hosts).join(","), values)).collect()
    }

    /// Tells whether a column holds nothing but the names of the hosts.
    #[must_use]
    pub fn names_itself(&self, column: &Column) -> bool {
        self.members.iter().zip(&column.values).all(|(plan, value)| plan.host == *value)
    }
}

/// Puts hosts together of which the same is told, in the order of the first of each.
#[must_use]
pub fn groups(plans: &[HostPlan], look: Look) -> Vec<Group<'_>> {
    // The hosts of each face, the faces of each shape.
    let mut faces: Vec<(Value, Vec<usize>)> = vec![];
    let mut known: HashMap<Digest, usize> = HashMap::new();
    let mut shapes: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (at, plan) in plans.iter().enumerate() {
        let face = face(plan, look);
        let place = *known.entry(Digest::of(face.to_string().as_bytes())).or_insert_with(|| {
            let mut shape = String::new();
            put_shape(&mut shape, &face, false);
            shapes.entry(Digest::of(shape.as_bytes())).or_default().push(faces.len());
            faces.push((face, vec![]));
            faces.len() - 1
        });
        faces[place].1.push(at);
    }
    let mut groups: Vec<(usize, Group<'_>)> = vec![];
    for alike in shapes.into_values() {
        let merged =
            (alike.len() > 1).then(|| merge(&alike.iter().map(|at| &faces[*at].0).collect::<Vec<_>>())).flatten();
        if let Some((shown, columns)) = merged
            && let Some(group) = group(plans, &faces, &alike, &shown, &columns)
        {
            groups.push(group);
            continue;
        }
        groups.extend(alike.iter().filter_map(|at| group(plans, &faces, &[*at], &faces[*at].0, &[])));
    }
    groups.sort_by_key(|(at, _)| *at);
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Makes a group of faces. `columns` hold a value for each face.
fn group<'p>(
    plans: &'p [HostPlan],
    faces: &[(Value, Vec<usize>)],
    alike: &[usize],
    shown: &Value,
    columns: &[Vec<String>],
) -> Option<(usize, Group<'p>)> {
    let mut members: Vec<(usize, usize)> =
        alike.iter().enumerate().flat_map(|(face, at)| faces[*at].1.iter().map(move |host| (*host, face))).collect();
    members.sort_unstable();
    let first = members.first()?.0;
    let result = match (serde_json::from_value(shown.clone()).ok()?, &plans[first].result) {
        (HostResult::Planned(shown), HostResult::Planned(of)) => {
            HostResult::Planned(Planned { facts: of.facts.clone(), ..shown })
        }
        (result, _) => result,
    };
    let column = |(at, values): (usize, &Vec<String>)| Column {
        mark: mark(at),
        values: members.iter().map(|(_, face)| values[*face].clone()).collect(),
    };
    let columns = columns.iter().enumerate().map(column).collect();
    let host = plans[first].host.clone();
    let members = members.iter().map(|(host, _)| &plans[*host]).collect();
    Some((first, Group { members, shown: HostPlan { host, result }, columns }))
}

fn mark(at: usize) -> String {
    format!("⟨{}⟩", at + 1)
}

/// Returns what is told of a host.
fn face(plan: &HostPlan, look: Look) -> Value {
    let result = match &plan.result {
        HostResult::Planned(planned) => {
            let is_told = |resource: &&ResourcePlan| {
                look.verbose || !resource.remarks.is_empty() || !matches!(resource.verdict, Verdict::Converged)
            };
            HostResult::Planned(Planned {
                facts: Box::default(),
                resources: planned.resources.iter().filter(is_told).map(|one| told(one, look)).collect(),
                uploaded: planned.uploaded.clone(),
                interrupted: planned.interrupted.clone(),
                orphaned: planned.orphaned.clone(),
                probes: if look.verbose { planned.probes.clone() } else { vec![] },
            })
        }
        other => other.clone(),
    };
    serde_json::to_value(result).unwrap_or_default()
}

fn told(resource: &ResourcePlan, look: Look) -> ResourcePlan {
    let mut told = resource.clone();
    if !look.show_sensitive {
        // The number of lines stays known, so it is counted first.
        told.withhold();
        redact::resource(&mut told);
    }
    let Verdict::Change(change) = &mut told.verdict else {
        told.from_facts.clear();
        return told;
    };
    change.needs.clear();
    if !look.verbose {
        // What no report shows makes no other plan.
        let has_files = !change.files.is_empty();
        change.fields.retain(|field| !has_files || !field.in_file);
        change.steps.retain(|step| matches!(step.op, Op::Run { .. }));
    }
    for step in &mut change.steps {
        (step.guards, step.after, step.owes, step.settles) = (vec![], vec![], vec![], vec![]);
        if let Op::Run { command, produces, undo } = &mut step.op {
            (command.stdin, *produces, *undo) = (None, vec![], Undo::Nothing);
        }
    }
    told
}

/// Writes a value without what may differ; of that only how many lines it has.
fn put_shape(out: &mut String, value: &Value, is_free: bool) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(key);
                out.push('{');
                put_shape(out, value, is_free_below(key, is_free));
                out.push('}');
            }
        }
        Value::Array(list) => {
            for value in list {
                out.push('[');
                put_shape(out, value, is_free);
                out.push(']');
            }
        }
        Value::Null => out.push_str("null"),
        Value::String(text) if is_free => out.push_str(&format!("{} lines", lines(text).count())),
        _ if is_free => out.push_str("1 lines"),
        plain => out.push_str(&plain.to_string()),
    }
}

/// Tells whether what stands under a key may differ. What is no text is shown by its size alone.
fn is_free_below(key: &str, is_free: bool) -> bool {
    (is_free || FREE.contains(&key)) && key != "base64"
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    // An empty text is one line, so that it can stand for a value.
    let empty = text.is_empty().then_some("");
    text.split_inclusive('\n').chain(empty)
}

/// Joins faces of one shape; `None` where they differ in too much.
fn merge(faces: &[&Value]) -> Option<(Value, Vec<Vec<String>>)> {
    let mut columns: Vec<Vec<String>> = vec![];
    let shown = merge_values(faces, false, &mut columns)?;
    Some((shown, columns))
}

fn merge_values(values: &[&Value], is_free: bool, columns: &mut Vec<Vec<String>>) -> Option<Value> {
    let (first, others) = values.split_first()?;
    if others.iter().all(|other| other == first) {
        return Some((*first).clone());
    }
    match first {
        Value::Object(map) => {
            let mut merged = serde_json::Map::new();
            for key in map.keys() {
                let values: Vec<&Value> = values.iter().map(|value| value.get(key)).collect::<Option<_>>()?;
                merged.insert(key.clone(), merge_values(&values, is_free_below(key, is_free), columns)?);
            }
            Some(Value::Object(merged))
        }
        Value::Array(list) => (0..list.len())
            .map(|at| {
                let values: Vec<&Value> = values.iter().map(|value| value.get(at)).collect::<Option<_>>()?;
                merge_values(&values, is_free, columns)
            })
            .collect(),
        _ if is_free => {
            let texts = values.iter().map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let texts: Vec<String> = texts.collect();
            let mut split: Vec<_> = texts.iter().map(|text| lines(text)).collect();
            let mut merged = String::new();
            for _ in 0..lines(&texts[0]).count() {
                let line: Vec<&str> = split.iter_mut().map(Iterator::next).collect::<Option<_>>()?;
                merged.push_str(&merge_lines(&line, columns)?);
            }
            Some(Value::String(merged))
        }
        _ => None,
    }
}

/// Puts a mark in the place of the words in which lines differ.
fn merge_lines(all: &[&str], columns: &mut Vec<Vec<String>>) -> Option<String> {
    let (first, others) = all.split_first()?;
    if others.iter().all(|other| other == first) {
        return Some((*first).to_owned());
    }
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let common_end = |a: &str, b: &str| a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
    let shortest = all.iter().map(|line| line.len()).min()?;
    let mut start = others.iter().map(|other| common(first, other)).min()?;
    let mut end = others.iter().map(|other| common_end(first, other)).min()?.min(shortest - start);
    // Whole words differ, not letters of them.
    let is_word = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let is_cut = |start: usize, end: usize| {
        all.iter().any(|line| !line.is_char_boundary(start) || !line.is_char_boundary(line.len() - end))
    };
    while start > 0 && (is_cut(start, 0) || first[..start].ends_with(is_word)) {
        start -= 1;
    }
    while end > 0 && (is_cut(0, end) || first[first.len() - end..].starts_with(is_word)) {
        end -= 1;
    }
    let values: Vec<String> = all.iter().map(|line| line[start..line.len() - end].to_owned()).collect();
    if values.iter().any(|value| value.chars().count() > LONGEST || value.contains('\n')) {
        return None;
    }
    let at = match columns.iter().position(|column| *column == values) {
        Some(at) => at,
        None if columns.len() < COLUMNS => {
            columns.push(values);
            columns.len() - 1
        }
        None => return None,
    };
    Some(format!("{}{}{}", &first[..start], mark(at), &first[first.len() - end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog,
        config::declared::entries,
        diag::SourceMap,
        facts::Facts,
        graph::Graph,
        host::fake::{FakeHost, World},
        plan::host::{Circumstances, plan},
    };

    fn planned(host: &str, text: &str) -> HostPlan {
        let compile = |_: &Facts| {
            let catalog = catalog::build(entries(text, &SourceMap::new()))?;
            let graph = Graph::build(&catalog)?;
            Ok((catalog, graph))
        };
        let planned = plan(&mut FakeHost::new(World::new()), &compile, Circumstances::default(), &mut |_| ()).unwrap();
        HostPlan { host: host.into(), result: HostResult::Planned(planned) }
    }

    /// Checks the groups by name and rows.
    fn check(plans: &[HostPlan], expected: &[(&str, usize, &[&str])]) {
        let look = Look { colour: false, show_sensitive: false, verbose: false };
        let found: Vec<(String, usize, Vec<String>)> = groups(plans, look)
            .iter()
            .map(|group| {
                let rows = group.rows().into_iter().map(|(hosts, values)| format!("{hosts}: {}", values.join(" ")));
                (group.name(), group.columns.len(), rows.collect())
            })
            .collect();
        let expected: Vec<(String, usize, Vec<String>)> = expected
            .iter()
            .map(|(name, n, rows)| ((*name).into(), *n, rows.iter().map(|row| (*row).into()).collect()))
            .collect();
        assert_eq!(found, expected);
    }

    fn file(host: &str, content: &str) -> HostPlan {
        planned(host, &format!("- file: {{path: /etc/a, content: {content:?}}}\n"))
    }

    #[test]
    fn hosts_with_the_same_plan_are_one_and_those_but_for_a_value_have_a_table() {
        check(&[file("a1", "x\n"), file("a2", "x\n"), file("a3", "x\n")], &[("a[1-3]", 0, &[])]);
        let plans = [file("a1", "n = 4 # x\n"), file("a2", "n = 8 # x\n"), file("a3", "n = 4 # x\n")];
        check(&plans, &[("a[1-3]", 1, &["a[1,3]: 4", "a2: 8"])]);
        // What only names the host needs no table.
        check(&[file("a1", "name=a1\n"), file("a2", "name=a2\n")], &[("a[1,2]", 1, &[])]);
        // One value in several places is one.
        let twice = |host: &str, n: u8| file(host, &format!("a = {n}\nb = {n}\nc = x{n}\n"));
        check(&[twice("a1", 1), twice("a2", 2)], &[("a[1,2]", 2, &["a1: 1 x1", "a2: 2 x2"])]);
    }

    #[test]
    fn what_differs_in_more_than_values_stands_alone() {
        check(&[file("a1", "x\n"), file("a2", "x\ny\n")], &[("a1", 0, &[]), ("a2", 0, &[])]);
        let other = planned("a2", "- file: {path: /etc/b, content: \"x\\n\"}\n");
        check(&[file("a1", "x\n"), other, file("a3", "x\n")], &[("a[1,3]", 0, &[]), ("a2", 0, &[])]);
        let many = |host: &str, n: u8| file(host, &(0..6).map(|at| format!("{}\n", n * 10 + at)).collect::<String>());
        check(&[many("a1", 1), many("a2", 2)], &[("a1", 0, &[]), ("a2", 0, &[])]);
        let long = |host: &str, c: &str| file(host, &format!("{}\n", c.repeat(100)));
        check(&[long("a1", "x"), long("a2", "y")], &[("a1", 0, &[]), ("a2", 0, &[])]);
    }

    #[test]
    fn the_mark_stands_for_whole_words() {
        let check = |all: &[&str], expected: &str, values: &[&str]| {
            let mut columns = vec![];
            assert_eq!(merge_lines(all, &mut columns).as_deref(), Some(expected));
            assert_eq!(columns, [values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>()]);
        };
        check(&["a=10\n", "a=100\n"], "a=⟨1⟩\n", &["10", "100"]);
        check(&["x kvm01.net y", "x kvm02.net y"], "x ⟨1⟩ y", &["kvm01.net", "kvm02.net"]);
        check(&["é1", "è1"], "⟨1⟩", &["é1", "è1"]);
        check(&["a", ""], "⟨1⟩", &["a", ""]);
        check(&["aa aa", "aa aa aa"], "aa ⟨1⟩", &["aa", "aa aa"]);
    }
}
