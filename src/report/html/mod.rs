//! A plan as one page that needs nothing else: no network, no file beside it. Everything of a host is escaped, and the page's
//! own policy lets no other style or program run.

mod diff;
mod graph;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    group::{self, Group},
    plan::{fields, host_counts, notes, resource_words, standing},
    summary::{State, Summary},
    text::{Look, Tone, count, shown},
};
use crate::{
    plan::{HostPlan, HostResult, Planned, ResourcePlan, Verdict},
    resource::Remark,
};

const STYLE: &str = include_str!("page.css");
const PROGRAM: &str = include_str!("page.js");

/// So many entries are open at first.
const OPEN: usize = 8;

/// With more hosts than this the map has dots without signs.
const MANY: usize = 400;

/// Writes plans. `origin` says where a saved plan comes from, and may be empty.
#[must_use]
pub fn plan(plans: &[HostPlan], origin: &str, look: Look) -> String {
    let look = Look { colour: false, ..look };
    let summary = Summary::of(plans);
    let groups = group::groups(plans, look);
    let mut told: Vec<(State, &Group<'_>)> = groups.iter().map(|group| (State::of(&group.shown), group)).collect();
    told.sort_by_key(|(state, _)| *state);
    let title = summary.changes().unwrap_or_else(|| "no changes".into());
    let mut out = String::with_capacity(1 << 16);
    out.push_str("<!doctype html>\n<html lang=en><head><meta charset=utf-8>");
    out.push_str(&format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'; script-src '{}'; base-uri \
         'none'; form-action 'none'\">",
        source(STYLE),
        source(PROGRAM)
    ));
    out.push_str(
        "<meta name=viewport content=\"width=device-width, initial-scale=1\"><meta name=referrer content=no-referrer>",
    );
    out.push_str(&format!("<title>vprov plan: {}</title><style>{STYLE}</style></head><body>", escaped(&title)));
    out.push_str("<a class=skip href=\"#plan\">To the plan</a>");
    put_head(&mut out, &summary, plans, origin, &title);
    out.push_str("<main id=plan>");
    put_map(&mut out, &told);
    put_bar(&mut out, plans);
    for (at, (state, group)) in told.iter().enumerate() {
        put_group(&mut out, at, *state, group, look, at < OPEN && *state != State::Declared);
    }
    put_hosts(&mut out, &told);
    out.push_str("</main>");
    out.push_str(&format!("<footer>vprov {}</footer>", env!("CARGO_PKG_VERSION")));
    out.push_str(&format!("<script>{PROGRAM}</script></body></html>\n"));
    out
}

fn put_head(out: &mut String, summary: &Summary, plans: &[HostPlan], origin: &str, title: &str) {
    out.push_str(&format!("<header><h1>vprov plan</h1><p>{}</p>", escaped(title)));
    if !origin.is_empty() {
        out.push_str(&format!("<p class=soft>{}</p>", escaped(origin.trim())));
    }
    out.push_str(&format!(
        "<ul class=tiles><li><b>{}</b><span>{}</span>",
        summary.hosts,
        if summary.hosts == 1 { "host" } else { "hosts" }
    ));
    for state in State::ALL {
        let n = plans.iter().filter(|plan| State::of(plan) == state).count();
        let (_, word, class) = state.words();
        if n > 0 {
            out.push_str(&format!("<li class={class}><b>{n}</b><span>{word}</span>"));
        }
    }
    out.push_str("</ul></header>");
}

fn put_map(out: &mut String, told: &[(State, &Group<'_>)]) {
    let hosts: usize = told.iter().map(|(_, group)| group.members.len()).sum();
    let class = if hosts > MANY { "map many" } else { "map" };
    out.push_str(&format!("<div class=\"{class}\" aria-hidden=true>"));
    for (at, (_, group)) in told.iter().enumerate() {
        for plan in &group.members {
            let (sign, word, class) = State::of(plan).words();
            let host = escaped(&plan.host);
            out.push_str(&format!(
                "<a class={class} href=\"#g{at}\" data-host=\"{host}\" title=\"{host}: {word}\" tabindex=-1>{sign}</a>"
            ));
        }
    }
    out.push_str("</div>");
}

fn put_bar(out: &mut String, plans: &[HostPlan]) {
    out.push_str(
        "<div class=bar role=search><label><span>Host <kbd>/</kbd></span><input id=f-host type=search placeholder=\"kvm01, xen*\" \
         autocomplete=off></label><label>Resource<input id=f-resource type=search placeholder=\"sysctl, /etc/fstab\" \
         autocomplete=off></label><label>State<select id=f-state><option value=\"\">all</option>",
    );
    for state in State::ALL {
        let (_, word, class) = state.words();
        if plans.iter().any(|plan| State::of(plan) == state) {
            out.push_str(&format!("<option value={class}>{word}</option>"));
        }
    }
    out.push_str("</select></label><output id=shown aria-live=polite></output></div>");
}

fn put_group(out: &mut String, at: usize, state: State, group: &Group<'_>, look: Look, is_open: bool) {
    let (sign, word, class) = state.words();
    let hosts: Vec<String> = group.members.iter().map(|plan| escaped(&plan.host)).collect();
    out.push_str(&format!(
        "<article id=g{at} class={class} data-state={class} data-hosts=\"{}\"><details{}><summary><span class=sign>{sign}</span>\
         <span class=\"name mono\">{}</span>",
        hosts.join(" "),
        if is_open { " open" } else { "" },
        escaped(&group.name())
    ));
    let counts = match &group.shown.result {
        HostResult::Planned(planned) => host_counts(planned.counts()),
        _ => String::new(),
    };
    let hosts_words = if group.members.len() > 1 { format!("{} hosts", group.members.len()) } else { String::new() };
    let but = match group.columns.len() {
        0 => String::new(),
        n => format!("one plan but for {}", count(n, "value")),
    };
    let words: Vec<&str> = [hosts_words.as_str(), but.as_str(), if counts.is_empty() { word } else { counts.as_str() }]
        .into_iter()
        .filter(|words| !words.is_empty())
        .collect();
    out.push_str(&format!("<span class=soft>{}</span></summary><div class=inside>", escaped(&words.join(" · "))));
    if group.members.len() > 1 {
        let list: Vec<String> = hosts.iter().map(|host| format!("<li class=mono>{host}")).collect();
        out.push_str(&format!(
            "<details><summary>All {} hosts</summary><ul class=hosts>{}</ul></details>",
            hosts.len(),
            list.concat()
        ));
    }
    put_values(out, group);
    match &group.shown.result {
        HostResult::Unreachable { error } | HostResult::Failed { error } => {
            out.push_str(&format!("<pre>{}</pre>", lines(error)));
        }
        HostResult::Planned(planned) => {
            put_states(out, planned);
            for resource in &planned.resources {
                put_resource(out, resource, look);
            }
            for orphan in &planned.orphaned {
                let address = escaped(&orphan.address.to_string());
                out.push_str(&format!(
                    "<section class=res data-address=\"{address}\"><h3><span class=\"act later\">o orphaned</span> \
                     <code>{address}</code></h3><ul><li>{}</ul></section>",
                    lines(standing(orphan))
                ));
            }
            if let Some(HostResult::Planned(first)) = group.members.first().map(|plan| &plan.result) {
                let drawing = graph::drawing(first);
                if !drawing.is_empty() {
                    out.push_str(&format!("<details><summary>What waits for what</summary>{drawing}</details>"));
                }
            }
        }
    }
    out.push_str("</div></details></article>");
}

fn put_values(out: &mut String, group: &Group<'_>) {
    for column in group.columns.iter().filter(|column| group.names_itself(column)) {
        out.push_str(&format!("<p><mark>{}</mark> is the name of the host.</p>", column.mark));
    }
    let rows = group.rows();
    if rows.is_empty() {
        return;
    }
    out.push_str("<div class=\"values scroll\"><table><thead><tr><th>Hosts");
    for column in group.columns.iter().filter(|column| !group.names_itself(column)) {
        out.push_str(&format!("<th><mark>{}</mark>", column.mark));
    }
    out.push_str("</thead>");
    for (hosts, values) in rows {
        out.push_str(&format!("<tr><td class=src>{}", escaped(&hosts)));
        for value in values {
            out.push_str(&format!("<td class=src>{}", escaped(value)));
        }
    }
    out.push_str("</table></div>");
}

/// Writes what is wanted, what the next boot has and what runs, where these differ.
fn put_states(out: &mut String, planned: &Planned) {
    let mut rows = String::new();
    for resource in &planned.resources {
        for remark in &resource.remarks {
            let (attribute, states) = match remark {
                Remark::Reboot { attribute, desired, configured, running } => {
                    (attribute, [desired, configured, running])
                }
                Remark::Short { attribute, desired, running } => (attribute, [desired, desired, running]),
                Remark::Warning { .. } => continue,
            };
            let [desired, configured, running] = states.map(|state| marked(state));
            rows.push_str(&format!(
                "<tr><td>{}<td class=src>{desired}<td class=src>{configured}<td class=src>{running}",
                escaped(attribute)
            ));
        }
    }
    if !rows.is_empty() {
        out.push_str(&format!(
            "<div class=\"states scroll\"><table><thead><tr><th>Until a reboot<th>Desired<th>Configured<th>Running</thead>{rows}</table></div>"
        ));
    }
}

fn put_resource(out: &mut String, resource: &ResourcePlan, look: Look) {
    let (sign, word, _) = resource_words(resource);
    let address = escaped(&resource.address.to_string());
    out.push_str(&format!(
        "<section class=res data-address=\"{address}\"><h3><span class=\"act {}\">{} {}</span> <code>{address}</code></h3>",
        word.split(' ').next().unwrap_or_default(),
        escaped(sign),
        escaped(word)
    ));
    if let Verdict::Change(change) = &resource.verdict {
        let rows = fields(resource, change, look);
        if !rows.is_empty() {
            out.push_str("<table>");
            for row in &rows {
                out.push_str(&format!("<tr><th>{}<td class=src>{}", escaped(&row[0]), marked(&row[1])));
            }
            out.push_str("</table>");
        }
        for file in &change.files {
            diff::put(out, file, resource.sensitive && !look.show_sensitive);
        }
    }
    let mut list = String::new();
    for (tone, text) in notes(resource, look) {
        let class = if tone == Tone::Notice { " class=warn" } else { "" };
        list.push_str(&format!("<li{class}>{}", lines(&text)));
    }
    for remark in &resource.remarks {
        match remark {
            Remark::Warning { text, help } => {
                let help = help
                    .as_ref()
                    .map(|help| format!("<br><span class=soft>{}</span>", lines(help)))
                    .unwrap_or_default();
                list.push_str(&format!("<li class=warn>Warning: {}{help}", lines(text)));
            }
            Remark::Short { attribute, desired, running } => list.push_str(&format!(
                "<li class=warn>Short: {} is {} of {}",
                escaped(attribute),
                marked(running),
                marked(desired)
            )),
            Remark::Reboot { .. } => {}
        }
    }
    if !list.is_empty() {
        out.push_str(&format!("<ul>{list}</ul>"));
    }
    out.push_str("</section>");
}

fn put_hosts(out: &mut String, told: &[(State, &Group<'_>)]) {
    out.push_str(
        "<h2>Hosts</h2><details><summary>All hosts, with what they are</summary><div class=scroll><table class=all><thead><tr>\
         <th>Host<th>State<th>System<th>Kernel<th>Virtualization<th>Memory</thead><tbody>",
    );
    for (at, (_, group)) in told.iter().enumerate() {
        for plan in &group.members {
            let (sign, word, class) = State::of(plan).words();
            let host = escaped(&plan.host);
            out.push_str(&format!(
                "<tr data-host=\"{host}\" data-state={class} data-group=g{at} class={class}><td class=src><a href=\"#g{at}\">{host}</a>\
                 <td><span class=sign>{sign}</span> {word}"
            ));
            if let HostResult::Planned(planned) = &plan.result {
                let facts = &planned.facts;
                let virt = match (facts.virt.dom0, facts.virt.xen, facts.virt.kvm) {
                    (true, ..) => "Xen dom0",
                    (_, true, _) => "Xen guest",
                    (_, _, true) => "KVM",
                    _ => "",
                };
                out.push_str(&format!(
                    "<td>{}<td>{}<td>{virt}<td>{} GiB",
                    escaped(&facts.os.name),
                    escaped(&facts.kernel.release),
                    facts.memory.installed_gib
                ));
            } else {
                out.push_str("<td><td><td><td>");
            }
        }
    }
    out.push_str("</tbody></table></div></details>");
}

/// Makes a text harmless for HTML, in elements and in attributes with quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in shown(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The same with the marks of values shown as such.
fn marked(text: &str) -> String {
    let mut out = escaped(text);
    for n in 1..=9 {
        let mark = format!("⟨{n}⟩");
        if out.contains(&mark) {
            out = out.replace(&mark, &format!("<mark>{mark}</mark>"));
        }
    }
    out
}

fn lines(text: &str) -> String {
    text.lines().map(marked).collect::<Vec<_>>().join("<br>")
}

/// Names a text as a Content Security Policy does.
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::Address,
        facts::Facts,
        host::{bytes::Bytes, path::AbsPath},
        plan::{Change, FileChange},
        resource::{Disruption, state::Action},
    };

    const HOSTILE: &str = "\"'><script>alert(1)</script><!--\u{202e}\x1b]0;x\x07";

    fn host(name: String, after: &str) -> HostPlan {
        let files = vec![FileChange {
            path: AbsPath::known("/etc/<b>a"),
            before: Some(Bytes::from(HOSTILE)),
            after: Some(Bytes::from(after)),
            withheld: None,
        }];
        let change = Change {
            action: Action::Update,
            fields: vec![],
            steps: vec![],
            needs: vec![],
            files,
            disturbs: Disruption::Nothing,
            connection: false,
            reversible: true,
            because: vec![HOSTILE.into()],
        };
        let state = || HOSTILE.to_string();
        let resource = |name: &str, verdict| ResourcePlan {
            address: Address::new("file", format!("{name}{HOSTILE}")),
            verdict,
            remarks: vec![
                Remark::warning_with_help(HOSTILE, HOSTILE),
                Remark::Reboot { attribute: state(), desired: state(), configured: state(), running: state() },
            ],
            from_facts: Default::default(),
            overridden: Default::default(),
            restores: Default::default(),
            sensitive: false,
        };
        let after_it = Change { needs: vec![0], ..change.clone() };
        let mut facts = Facts::default();
        facts.os.name = HOSTILE.into();
        facts.kernel.release = HOSTILE.into();
        let resources = vec![
            resource("a", Verdict::Change(change)),
            resource("b", Verdict::Change(after_it)),
            resource("c", Verdict::Failed { reason: state(), preflight: false }),
        ];
        let planned = Planned {
            facts: Box::new(facts),
            resources,
            uploaded: None,
            interrupted: None,
            orphaned: vec![],
            probes: vec![],
        };
        HostPlan { host: name, result: HostResult::Planned(planned) }
    }

    const LOOK: Look = Look { colour: false, show_sensitive: false, verbose: false };

    #[test]
    fn nothing_of_a_host_is_markup() {
        let lost = HostPlan { host: HOSTILE.into(), result: HostResult::Unreachable { error: HOSTILE.into() } };
        let page = plan(&[host(HOSTILE.into(), "x\n"), lost], HOSTILE, LOOK);
        assert_eq!(page.matches("<script").count(), 1, "the page's own");
        assert!(!page.contains("<!--") && !page.contains("<b>a") && !page.contains(['\u{202e}', '\x1b', '\x07']));
        assert!(page.contains("&quot;&#39;&gt;&lt;script&gt;alert(1)") && page.contains("What waits for what"));
    }

    #[test]
    fn five_thousand_hosts_are_a_small_page() {
        let plans: Vec<HostPlan> =
            (1..=5000).map(|n| host(format!("kvm{n:04}"), &format!("n = {}\n", n % 7))).collect();
        let page = plan(&plans, "", LOOK);
        assert_eq!(page.matches("<article").count(), 1);
        assert!(page.contains("kvm[0001-5000]") && page.contains("one plan but for 1 value"));
        assert!(page.len() < 5_000_000, "{}", page.len());
    }
}
