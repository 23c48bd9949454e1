//! A plan as a page, a comment and a report of tests. A real browser judges the page.

use crate::{
    lab::skip,
    program::{Env, Output},
};

/// Twelve hosts with the same plan but for their names, one that is as declared and one that cannot be reached. The file is
/// there already, and what stands in it is hostile.
fn saved() -> Env {
    let env = Env::new();
    let path = env.write("app.conf", "a = 1\n\"><img src=x onerror=\"document.title='obeyed'\">\n");
    let resources = format!(
        "[ {{ file: {{ path: {}, content: \"host = {{{{ host.name }}}}\\n</pre></script><script>document.title='obeyed'</script>\\n\" }} }} ]",
        path.display()
    );
    let inventory = format!(
        "hosts:\n  h[01-12]: {{ connection: local, resources: {resources} }}\n  quiet: {{ connection: local }}\n  \
         gone: {{ address: 127.0.0.1, ssh: {{ port: 1 }} }}\n"
    );
    env.write("hosts.yaml", inventory);
    env.vprov(["plan", "hosts.yaml", "-o", "p.vprov"]).exits(4);
    env
}

fn browser(env: &Env, args: &[&str]) -> Option<Output> {
    let found =
        env.run("sh", ["-c", "command -v chromium || command -v chromium-browser || command -v google-chrome"], "");
    if found.code != 0 {
        skip("there is no Chromium here to judge the page (apt-get install chromium)");
        return None;
    }
    let profile = format!("--user-data-dir={}", env.dir().join("profile").display());
    let fixed = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        &profile,
    ];
    Some(env.run(found.stdout.trim(), fixed.iter().chain(args), ""))
}

#[test]
fn a_browser_shows_the_page_and_obeys_nothing_of_a_host() {
    let env = saved();
    let page = env.vprov(["show", "p.vprov", "--html"]).exits(0).stdout;
    for needs in ["http://", "https://", "src=\"", "@import", "url("] {
        assert!(!page.contains(needs), "the page needs `{needs}`");
    }
    let path = env.write("page.html", &page);
    let Some(seen) = browser(&env, &["--dump-dom", path.to_str().expect("the path is UTF-8")]) else { return };
    let seen = seen.exits(0);
    // The page's own program ran, and nobody else's.
    assert!(seen.stdout.contains("3 of 3 entries, 14 hosts"), "{seen:?}");
    assert!(seen.stdout.contains("<title>vprov plan: 12 to change on 12 hosts</title>"), "{seen:?}");
    assert!(seen.stdout.contains("&lt;script&gt;document.title='obeyed'&lt;/script"), "{seen:?}");
    assert!(!seen.stderr.contains("Content Security Policy") && !seen.stderr.contains("Uncaught"), "{seen:?}");
    assert!(
        seen.stdout.contains("h[01-12]") && seen.stdout.contains("<mark>⟨1⟩</mark> is the name of the host."),
        "{seen:?}"
    );
}

#[test]
fn a_comment_is_short_and_counts_first() {
    let env = saved();
    let text = env.vprov(["show", "p.vprov", "--markdown"]).exits(0).stdout;
    assert!(text.starts_with("### vprov: 12 to change on 12 hosts\n\n1 host as declared, 1 unreachable.\n"), "{text}");
    assert!(text.contains("12 hosts with the same plan but for 1 value"), "{text}");
    assert!(text.contains("+host = ⟨1⟩\n"), "{text}");
    let content: String = (0..20_000).map(|at| format!("line {at}\\n")).collect();
    let resources = format!("[ {{ file: {{ path: {}/large, content: \"{content}\" }} }} ]", env.dir().display());
    env.write("hosts.yaml", format!("hosts:\n  a: {{ connection: local, resources: {resources} }}\n"));
    env.vprov(["plan", "hosts.yaml", "-o", "p.vprov"]).exits(0);
    let text = env.vprov(["show", "p.vprov", "--markdown"]).exits(0).stdout;
    assert!(
        text.len() < 65_000 && text.contains("**Left out, because a comment has a limit:** the diffs of 1 entry."),
        "{text}"
    );
}

#[test]
fn ci_gets_a_report_of_tests() {
    let env = saved();
    let text = env.vprov(["show", "p.vprov", "--junit"]).exits(0).stdout;
    assert!(text.contains("<testsuites tests=\"26\" failures=\"1\" skipped=\"12\">"), "{text}");
    assert!(text.contains("<testcase classname=\"gone\" name=\"plan\"><failure message=\"unreachable\">"), "{text}");
    env.vprov(["show", "p.vprov", "--junit", "--html"]).exits(1).says("cannot be used with");
}

#[test]
fn text_shows_hosts_that_differ_in_a_value_once() {
    let env = saved();
    let text = env.vprov(["show", "p.vprov"]).exits(0).stdout;
    assert!(text.contains("h[01-12]  (12 hosts with the same plan but for 1 value)  1 change\n"), "{text}");
    assert!(text.contains("\n  ⟨1⟩ is the name of the host\n"), "{text}");
    assert_eq!(text.matches("+host = ").count(), 1, "{text}");
}
