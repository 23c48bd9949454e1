//! What a host is reached by: the SSH server, the network and its filters. An operation on these may cut the controller off.

use crate::host::op::{Op, Undo};

/// Files and directories whose content decides who gets in (sshd_config(5), pam.d(5), hosts_access(5)), what the network is
/// (systemd.network(5), interfaces(5), NetworkManager(8), netplan, wicked, ifcfg(5)), and what its filters let through (nft(8),
/// iptables, firewalld).
const PATHS: [&str; 25] = [
    "/etc/ssh",
    "/usr/etc/ssh",
    "/root/.ssh",
    "/etc/pam.d",
    "/etc/security",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/hosts.allow",
    "/etc/hosts.deny",
    "/etc/systemd/network",
    "/etc/systemd/networkd.conf",
    "/etc/network",
    "/etc/NetworkManager",
    "/etc/netplan",
    "/etc/wicked",
    "/etc/sysconfig/network",
    "/etc/sysconfig/network-scripts",
    "/etc/nftables.conf",
    "/etc/nftables",
    "/etc/iptables",
    "/etc/firewalld",
    "/etc/ufw",
    "/etc/default/ufw",
];

/// Units that the connection goes through; also what their files and drop-ins are named by.
const UNITS: [&str; 18] = [
    "ssh",
    "sshd",
    "network",
    "networking",
    "systemd-networkd",
    "systemd-resolved",
    "NetworkManager",
    "wicked",
    "wickedd",
    "wickedd-nanny",
    "openvswitch",
    "openvswitch-switch",
    "ovs-vswitchd",
    "nftables",
    "iptables",
    "firewalld",
    "ufw",
    "netfilter-persistent",
];

/// Programs that change the network or its filters at once.
const PROGRAMS: [&str; 14] = [
    "ip",
    "ifup",
    "ifdown",
    "ifreload",
    "nmcli",
    "netplan",
    "wicked",
    "brctl",
    "ovs-vsctl",
    "nft",
    "iptables",
    "iptables-restore",
    "firewall-cmd",
    "ufw",
];

/// Tells whether an operation may cut off whoever is connected.
#[must_use]
pub fn may_cut(op: &Op) -> bool {
    match op {
        Op::Run { command, undo, .. } => {
            is_about(&command.argv) || matches!(undo, Undo::Run(undo) if is_about(&undo.argv))
        }
        op => op.path().is_some_and(|path| {
            let path = path.as_str();
            let is_within =
                |top: &str| path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let is_of_unit = is_within("/etc/systemd/system") && path.split('/').any(is_unit);
            is_of_unit || PATHS.into_iter().any(is_within)
        }),
    }
}

fn is_about(argv: &[String]) -> bool {
    let Some((program, words)) = argv.split_first() else { return false };
    let name = program.rsplit('/').next().unwrap_or(program);
    PROGRAMS.contains(&name) || UNITS.contains(&name) || words.iter().any(|word| is_unit(word))
}

/// Tells whether a word names a unit that the connection goes through, or the directory of its drop-ins.
fn is_unit(word: &str) -> bool {
    let word = word.strip_suffix(".d").unwrap_or(word);
    let stem = [".service", ".socket"].iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word);
    UNITS.contains(&stem.split('@').next().unwrap_or(stem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{
        op::{Command, Owner},
        path::AbsPath,
    };

    #[test]
    fn what_may_cut_the_connection_is_known() {
        let write =
            |path: &str| Op::Write { path: AbsPath::known(path), content: "".into(), owner: Owner::root(0o644) };
        let run =
            |words: &str| Op::Run { command: Command::new(words.split(' ')), produces: vec![], undo: Undo::Nothing };
        for op in [
            write("/etc/ssh/sshd_config.d/10-site.conf"),
            write("/etc/systemd/network/10-br0.network"),
            write("/etc/systemd/system/ssh.service.d/limits.conf"),
            write("/etc/systemd/system/sshd.socket"),
            write("/etc/network/interfaces"),
            run("systemctl restart ssh.service"),
            run("systemctl stop ssh@.service"),
            run("/usr/sbin/ip link set br0 down"),
            run("service sshd restart"),
        ] {
            assert!(may_cut(&op), "{}", op.describe());
        }
        for op in [
            write("/etc/sshfs.conf"),
            write("/etc/systemd/system/demo.service"),
            write("/etc/libvirt/qemu.conf"),
            run("systemctl restart libvirtd.service"),
            run("mount /mnt"),
        ] {
            assert!(!may_cut(&op), "{}", op.describe());
        }
    }
}
