//! Many names of hosts in few words: `kvm[01-11,13].example.net`. Expanding it gives the same names back.

use std::collections::BTreeMap;

/// Returns names of hosts in few words, those that differ in one number joined; in the order of the first of each.
#[must_use]
pub fn fold<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let mut order: Vec<Name<'n>> = Vec::new();
    let mut numbers: BTreeMap<Name<'n>, Vec<u32>> = BTreeMap::new();
    for name in names {
        let (key, number) = split(name);
        let list = numbers.entry(key).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        list.extend(number);
    }
    order
        .into_iter()
        .map(|key| {
            let mut list = numbers.remove(&key).unwrap_or_default();
            list.sort_unstable();
            list.dedup();
            let width = key.width;
            match list.as_slice() {
                [] => key.before.to_owned(),
                [number] => format!("{}{number:0width$}{}", key.before, key.after),
                list => format!("{}[{}]{}", key.before, runs(list, width), key.after),
            }
        })
        .collect()
}

/// A name with its last number taken out. Numbers of one key have one width, so that padding is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name<'n> {
    before: &'n str,
    after: &'n str,
    width: usize,
}

/// Takes the last number of the first label out of a name (`rack1-node07.example.net`: 07), or else the last of all.
fn split(name: &str) -> (Name<'_>, Option<u32>) {
    let label = name.find('.').unwrap_or(name.len());
    let is_digit = |c: char| c.is_ascii_digit();
    let end = match name[..label].rfind(is_digit) {
        Some(end) => end + 1,
        None => match name.rfind(is_digit) {
            Some(end) => end + 1,
            None => return (Name { before: name, after: "", width: 0 }, None),
        },
    };
    let start =
        name[..end].rfind(|c| !is_digit(c)).map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
    // A number of more digits than a range takes stays as it is.
    match (name[start..end].len() <= 9).then(|| name[start..end].parse().ok()).flatten() {
        Some(number) => (Name { before: &name[..start], after: &name[end..], width: end - start }, Some(number)),
        None => (Name { before: name, after: "", width: 0 }, None),
    }
}

fn runs(list: &[u32], width: usize) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in list {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |&(first, last): &(u32, u32)| match last - first {
        0 => format!("{first:0width$}"),
        1 => format!("{first:0width$},{last:0width$}"),
        _ => format!("{first:0width$}-{last:0width$}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{super::range::expand, *};

    #[test]
    fn names_are_folded() {
        let check = |names: &[&str], folded: &[&str]| assert_eq!(fold(names.iter().copied()), folded);
        check(&["kvm01.x", "kvm02.x", "kvm03.x", "kvm05.x"], &["kvm[01-03,05].x"]);
        check(&["kvm9", "kvm10", "kvm11"], &["kvm9", "kvm[10,11]"]);
        check(&["localhost", "xen01"], &["localhost", "xen01"]);
        check(&["b1", "a1", "b2"], &["b[1,2]", "a1"]);
        check(&["node1.rack2", "node2.rack2"], &["node[1,2].rack2"]);
        check(&[], &[]);
    }

    proptest! {
        #[test]
        fn folding_is_the_inverse_of_expanding(names in prop::collection::btree_set("[a-c]{1,2}[0-9]{0,3}(-[a-b])?[0-9]{0,2}(\\.[a-b][0-9]?)?", 0..30)) {
            let folded = fold(names.iter().map(String::as_str));
            let expanded: Vec<String> = folded.iter().flat_map(|range| expand(range).unwrap()).collect();
            prop_assert_eq!(expanded.len(), names.len());
            prop_assert_eq!(expanded.into_iter().collect::<BTreeSet<_>>(), names);
        }
    }
}
