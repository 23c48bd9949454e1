//! Health checks: whether a host is fit to be changed, and is well afterwards.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use super::{args::Wishes, session::Session};
use crate::{
    config::{
        inventory::{Connection, HostSpec},
        rollout::HealthCheck,
    },
    host::{
        Host,
        probe::Probe,
        read::{Answer, Read},
    },
    report::text::count,
    transport::Mode,
};

/// How long a TCP port is waited for.
const CONNECT: Duration = Duration::from_secs(5);

/// How often what does not hold yet is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Returns which of some checks do not hold on a host, in words, after they had so long to become true.
#[expect(clippy::disallowed_methods, reason = "a host has so many seconds to become well")]
pub fn failing(session: &Session, spec: &HostSpec, checks: &[HealthCheck], within: Duration) -> Vec<String> {
    // Below a root nothing runs that could be well.
    if checks.is_empty() || session.circumstances(Wishes::default()).offline {
        return vec![];
    }
    let start = Instant::now();
    loop {
        let failing = once(session, spec, checks);
        if failing.is_empty() || start.elapsed() >= within || session.stop.load(Ordering::Relaxed) {
            return failing;
        }
        thread::sleep(AGAIN.min(within.saturating_sub(start.elapsed())));
    }
}

fn once(session: &Session, spec: &HostSpec, checks: &[HealthCheck]) -> Vec<String> {
    let mut failing: Vec<String> = checks
        .iter()
        .filter_map(|check| match check {
            HealthCheck::Tcp(port) => connects(spec, *port).err().map(|why| format!("{check}: {why}")),
            HealthCheck::Command(_) | HealthCheck::Unit(_) => None,
        })
        .collect();
    let asked: Vec<(&HealthCheck, Read)> =
        checks.iter().filter_map(|check| Some((check, Read::Probe(probe(check)?)))).collect();
    if asked.is_empty() {
        return failing;
    }
    // What a person named runs only where nothing can be written, so this is never the executor that applies.
    let reads: Vec<Read> = asked.iter().map(|(_, read)| read.clone()).collect();
    match session.connect(spec, Mode::Observe).and_then(|mut host| host.read(&reads)) {
        Ok(answers) => {
            let wrong = asked.iter().zip(&answers).filter_map(|((check, _), answer)| wrong(check, answer));
            failing.extend(wrong);
        }
        Err(error) => failing.push(format!("{} could not be made: {error}", count(asked.len(), "check"))),
    }
    failing
}

fn probe(check: &HealthCheck) -> Option<Probe> {
    match check {
        HealthCheck::Command(argv) => Some(Probe::User { argv: argv.clone() }),
        HealthCheck::Unit(unit) => Some(Probe::unit("ActiveState", unit)),
        HealthCheck::Tcp(_) => None,
    }
}

fn wrong(check: &HealthCheck, answer: &Answer) -> Option<String> {
    match (check, answer) {
        (HealthCheck::Command(_), Answer::Output(output)) if output.status == 0 => None,
        (HealthCheck::Command(_), Answer::Output(output)) => Some(format!("{check} ended with {}", output.status)),
        (HealthCheck::Unit(_), Answer::Output(_)) => {
            let state = answer.text().and_then(|text| text.trim().strip_prefix("ActiveState=")).unwrap_or("not known");
            (!matches!(state, "active" | "reloading")).then(|| format!("{check} is {state}"))
        }
        (_, Answer::Absent) => Some(format!("{check}: there is no such program")),
        (_, other) => Some(format!("{check}: {}", other.describe())),
    }
}

/// Connects to a port of the host from this machine, by the address of the inventory.
fn connects(spec: &HostSpec, port: u16) -> Result<(), String> {
    let target = if spec.connection() == Connection::Local { "127.0.0.1" } else { spec.target() };
    let addresses = match target.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolve(target)?,
    };
    let mut why = format!("`{target}` has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

/// A static binary has no name service, so the system's own program is asked.
#[expect(clippy::disallowed_methods, reason = "names are resolved by getent on this machine")]
fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let output: io::Result<_> =
        Command::new("getent").args(["ahosts", name]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(|error| format!("`getent ahosts {name}`: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut addresses: Vec<IpAddr> =
        text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::read::Output;

    #[test]
    fn what_does_not_hold_is_said_in_words() {
        let unit = HealthCheck::Unit("libvirtd.service".into());
        let command = HealthCheck::Command(vec!["test".into(), "-e".into(), "/x".into()]);
        let output = |status, text: &str| Answer::Output(Output { status, stdout: text.into(), stderr: "".into() });
        assert_eq!(wrong(&unit, &output(0, "ActiveState=active\n")), None);
        let failed = wrong(&unit, &output(0, "ActiveState=failed\n"));
        assert_eq!(failed.as_deref(), Some("unit `libvirtd.service` is failed"));
        assert_eq!(wrong(&command, &output(0, "")), None);
        assert_eq!(wrong(&command, &output(1, "")).as_deref(), Some("`test -e /x` ended with 1"));
        assert_eq!(wrong(&command, &Answer::Absent).as_deref(), Some("`test -e /x`: there is no such program"));
    }

    #[test]
    fn names_of_this_machine_have_addresses() {
        assert!(resolve("localhost").unwrap().iter().all(IpAddr::is_loopback));
        assert!(resolve("no-such-host.invalid").unwrap().is_empty());
    }
}
