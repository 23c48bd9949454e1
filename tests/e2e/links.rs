//! Links that are slow or lose packets: what is planned and done stays the same.

use crate::{lab, one::One};

const DECLARED: &str = r#"
      - file: { path: /etc/motd, content: "managed\n" }
      - setting: { file: /etc/default/demo, key: X, value: "1" }
      - swappiness: { value: 35 }
      - service: { name: ssh, enabled: true, running: true }
"#;

/// Plans and applies over a link with such a queue, and compares with the plan over a good one.
fn plans_the_same_over(queue: &str) {
    let Some(one) = One::systemd() else { return };
    let before = one.manifest();
    one.declare(DECLARED);
    // The first one also brings the executor.
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    let good = one.env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    one.host.shape(queue);
    let poor = one.env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    assert_eq!(poor.stdout, good.stdout);
    one.env.vprov(["apply", "--yes"]).exits(0);
    one.is_converged();
    one.host.shape("none");
    one.shows("cat /etc/motd /proc/sys/vm/swappiness", &["managed", "35"]);
    one.goes_back(&before);
}

#[test]
fn a_slow_link_whose_queue_overflows_changes_no_plan() {
    if lab::probe("tbf") {
        plans_the_same_over("tbf rate 256kbit burst 3k limit 6k");
    }
}

#[test]
fn a_link_with_delay_and_loss_changes_no_plan() {
    if lab::probe("netem") {
        plans_the_same_over("netem delay 80ms 20ms loss 5%");
    }
}
