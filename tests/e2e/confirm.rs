//! What may cut a host off: confirmed over a new connection, or taken back by the host itself.

use crate::{
    lab::{Host, Lab, inventory},
    program::Env,
};

/// Makes an environment in which sshd gets a setting and reads it.
fn sshd(hosts: &[Host], setting: &str) -> Env {
    let env = Env::new();
    // In the hosts of the lab sshd is the first process.
    let hang_up = "kill -HUP 1";
    let more = format!(
        r#"groups:
  all:
    hosts: ["lab*"]
    resources:
      - file: {{ path: /etc/ssh/sshd_config.d/10-site.conf, content: "{setting}\n" }}
        name: site
      - command:
          argv: [sh, -c, "{hang_up}; touch /srv/read"]
          creates: /srv/read
          undo: [sh, -c, "rm -f /srv/read; {hang_up}"]
        requires: [site]
"#
    );
    env.write("hosts.yaml", inventory(hosts) + &more);
    env
}

#[test]
fn what_cuts_a_host_off_is_taken_back_by_the_host_itself() {
    let Some(lab) = Lab::get() else { return };
    let hosts = [lab.host()];
    let env = sshd(&hosts, "AllowUsers nobody");
    env.vprov(["plan", "hosts.yaml"]).exits(0).says("may cut the connection");
    let output = env.vprov(["apply", "hosts.yaml", "--yes", "--confirm-timeout", "5"]).exits(3);
    output.says("not reached over a new connection").says("taken back");
    hosts[0].ssh("test ! -e /etc/ssh/sshd_config.d/10-site.conf && test ! -e /srv/read").exits(0);
    env.vprov(["history", "hosts.yaml"]).exits(0).says("confirm timer of ").says("rolled back by");
    // Nothing holds the host any more, and nothing is told as interrupted.
    env.vprov(["plan", "hosts.yaml"]).exits(0).never_says("interrupted");
}

#[test]
fn what_does_not_cut_a_host_off_is_confirmed_over_a_new_connection() {
    let Some(lab) = Lab::get() else { return };
    let hosts = [lab.host()];
    let env = sshd(&hosts, "MaxAuthTries 5");
    let output = env.vprov(["apply", "hosts.yaml", "--yes"]).exits(0);
    output.says("confirmed over a new connection");
    hosts[0].ssh("test -e /srv/read && ! ls /var/lib/vprov/runs/*/unconfirmed 2>/dev/null").exits(0);
    env.vprov(["plan", "hosts.yaml", "--detailed-exitcode"]).exits(0).never_says("interrupted");
    env.write(
        "hosts.yaml",
        inventory(&hosts)
            + "groups: { all: { hosts: [\"lab*\"], resources: [ { file: { path: /etc/motd, content: x } } ] } }\n",
    );
    env.vprov(["apply", "hosts.yaml", "--yes"]).exits(0).never_says("confirmed");
}

#[test]
fn a_timer_that_died_leaves_a_run_that_is_told() {
    let Some(lab) = Lab::get() else { return };
    let hosts = [lab.host()];
    let env = sshd(&hosts, "MaxAuthTries 5");
    // What the power takes away: the executor and the timer, while nobody has confirmed yet.
    let run = "20260101T000000Z-0001";
    let begun =
        format!(r#"{{"begun":{{"format":"vprov.journal/1","run":"{run}","by":"me@here","at":1767225600,"ns":0}}}}"#);
    let record = format!(r#"{{"run":"{run}","by":"me@here","at":1767225600}}"#);
    let directory = format!("/var/lib/vprov/runs/{run}");
    hosts[0].ssh(&format!("mkdir -p -m 700 /var/lib/vprov {directory}/objects")).exits(0);
    hosts[0].write(
        &format!("{directory}/journal"),
        &format!("{begun}\n{{\"ended\":{{\"at\":1767225601,\"how\":\"done\"}}}}\n"),
    );
    hosts[0].write(&format!("{directory}/unconfirmed"), &record);
    env.vprov(["plan", "hosts.yaml"]).exits(0).says("! interrupted: run 20260101T000000Z-0001 by me@here");
    env.vprov(["apply", "hosts.yaml", "--yes"]).exits(0);
    env.vprov(["plan", "hosts.yaml", "--detailed-exitcode"]).exits(0).never_says("interrupted");
}
