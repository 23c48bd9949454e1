//! A plan as JUnit's XML, which CI systems show: what cannot be planned fails, what would change is skipped with the reason.

use super::{
    group,
    plan::{notes, resource_words},
    summary::State,
    text::{Look, shown},
};
use crate::plan::{HostPlan, HostResult, Verdict};

/// Writes plans: a test case for each host, and one for each of its resources that is not as declared.
#[must_use]
pub fn plan(plans: &[HostPlan], look: Look) -> String {
    let (mut cases, mut tests, mut failures, mut skipped) = (String::new(), 0, 0, 0);
    let mut put = |host: &str, name: &str, inner: &str| {
        tests += 1;
        failures += usize::from(inner.starts_with("<failure"));
        skipped += usize::from(inner.starts_with("<skipped"));
        cases.push_str(&format!(
            "    <testcase classname=\"{}\" name=\"{}\">{inner}</testcase>\n",
            escaped(host),
            escaped(name)
        ));
    };
    for group in group::groups(plans, look) {
        for member in &group.members {
            let host = &member.host;
            match &group.shown.result {
                HostResult::Unreachable { error } | HostResult::Failed { error } => {
                    let word = State::of(member).words().1;
                    put(host, "plan", &format!("<failure message=\"{word}\">{}</failure>", escaped(error)));
                }
                HostResult::Planned(planned) => {
                    put(host, "plan", "");
                    for resource in &planned.resources {
                        let (_, word, _) = resource_words(resource);
                        let words: Vec<String> = notes(resource, look).into_iter().map(|(_, text)| text).collect();
                        let inner = match &resource.verdict {
                            Verdict::Change(_) | Verdict::Deferred { .. } => {
                                format!("<skipped message=\"would {word}\"/>")
                            }
                            Verdict::Failed { .. } | Verdict::Blocked { .. } | Verdict::Unknown { .. } => {
                                format!("<failure message=\"{word}\">{}</failure>", escaped(&words.join("\n")))
                            }
                            Verdict::Converged | Verdict::Unsupported { .. } => continue,
                        };
                        put(host, &resource.address.to_string(), &inner);
                    }
                }
            }
        }
    }
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" skipped=\"{skipped}\"");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"vprov plan\" {counts}>\n{cases}  \
         </testsuite>\n</testsuites>\n"
    )
}

/// Makes a text harmless for XML; what XML cannot hold at all is escaped as on a terminal.
fn escaped(text: &str) -> String {
    let text: Vec<_> = text.lines().map(shown).collect();
    let text = text.join("\n").replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_planned_fails_and_nothing_breaks_the_xml() {
        let error = "a <b> & \"c\"\n\u{1b}[31m".to_string();
        let plans = [HostPlan { host: "h&1".into(), result: HostResult::Unreachable { error } }];
        let look = Look { colour: false, show_sensitive: false, verbose: false };
        let text = plan(&plans, look);
        assert!(text.contains("tests=\"1\" failures=\"1\" skipped=\"0\""), "{text}");
        let failure = "<failure message=\"unreachable\">a &lt;b&gt; &amp; &quot;c&quot;\n\\u{1b}[31m</failure>";
        assert!(text.contains(&format!("classname=\"h&amp;1\" name=\"plan\">{failure}")), "{text}");
    }
}
