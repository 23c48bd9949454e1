//! NFS: advice on the options of a mount, and what the server and client counters say (nfs(5), guide 4.4).

use super::mountinfo::effective_size;

/// The size of a page on which the kernel rounds, as far as vprov knows: larger on some arm64 and ppc64 kernels.
const PAGE: u64 = 4096;

/// The largest `rsize` and `wsize` in bytes (nfs(5)), which clients use by default if the server does.
pub const MAX_TRANSFER: u64 = 1 << 20;

/// Something that a person should know about an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The option.
    pub option: String,
    /// What to know and to do about it.
    pub text: String,
}

/// Returns advice on the options of an NFS mount that holds images of guests.
#[must_use]
pub fn advice(options: &[String]) -> Vec<Advice> {
    options.iter().filter_map(|option| advice_on(option).map(|text| Advice { option: option.clone(), text })).collect()
}

fn advice_on(option: &str) -> Option<String> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("rsize" | "wsize", Some(value)) => {
            let Ok(size) = value.parse::<u64>() else { return Some(format!("`{value}` is no number of bytes")) };
            let effective = effective_size(size);
            if effective != size {
                return Some(format!(
                    "the kernel makes {effective} of it: use a multiple of {PAGE} up to {MAX_TRANSFER}"
                ));
            }
            (size < MAX_TRANSFER).then(|| {
                format!("it is below {MAX_TRANSFER}, which client and server agree on by default: leave it out unless the network needs it")
            })
        }
        ("soft" | "softerr", None) => {
            Some("after a timeout guests get errors and may lose data: `hard` waits for the server".into())
        }
        ("sync", None) => {
            Some("each write waits for the server, which costs much: guests already flush what must last".into())
        }
        ("intr" | "nointr", None) => Some("it is ignored since Linux 2.6.25".into()),
        ("udp", None) | ("proto", Some("udp")) => Some("data may be damaged over UDP on fast networks: use tcp".into()),
        _ => None,
    }
}

/// Tells whether a device of fstab is a directory of an NFS server: `SERVER:/PATH`.
#[must_use]
pub fn is_source(spec: &str) -> bool {
    // An IPv6 address stands in brackets.
    let behind = match spec.strip_prefix('[') {
        Some(rest) => rest.split_once(']').and_then(|(host, rest)| (!host.is_empty()).then_some(rest)),
        None => spec.find(':').filter(|at| *at > 0).map(|at| &spec[at..]),
    };
    behind.and_then(|rest| rest.strip_prefix(':')).is_some_and(|path| path.starts_with('/'))
}

/// Returns the wanted options with the one that each mount over the network needs: `_netdev`, so that it waits for the
/// network whatever its type is (systemd.mount(5)).
#[must_use]
pub fn with_netdev(options: &[String]) -> Vec<String> {
    let mut options = options.to_vec();
    if !options.iter().any(|option| option == "_netdev") {
        options.push("_netdev".into());
    }
    options
}

/// The counters of the client (`/proc/net/rpc/nfs`, line `rpc`; linux net/sunrpc/stats.c). They only grow: a rate needs
/// two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientCounters {
    /// Calls.
    pub calls: u64,
    /// Calls that were sent again.
    pub retransmissions: u64,
}

/// Reads the counters of the client; `None` if the file has no such line.
#[must_use]
pub fn client_counters(content: &str) -> Option<ClientCounters> {
    let mut numbers = content.lines().find_map(|line| line.strip_prefix("rpc "))?.split_whitespace().map(str::parse);
    Some(ClientCounters { calls: numbers.next()?.ok()?, retransmissions: numbers.next()?.ok()? })
}

/// Reads the number of server threads from `/proc/fs/nfsd/threads` or the line `th` of `/proc/net/rpc/nfsd`.
#[must_use]
pub fn server_threads(content: &str) -> Option<u64> {
    let line = content.lines().find_map(|line| line.strip_prefix("th ")).unwrap_or(content);
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn advice_on_options() {
        for (option, word) in [
            ("rsize=8192", Some("below 1048576")),
            ("wsize=10000", Some("8192")),
            ("rsize=2097152", Some("1048576")),
            ("rsize=1048576", None),
            ("rsize=abc", Some("no number")),
            ("soft", Some("hard")),
            ("sync", Some("costs")),
            ("hard", None),
            ("vers=4.2", None),
        ] {
            let advice = advice(&[option.to_owned()]);
            assert_eq!(advice.is_empty(), word.is_none(), "{option}");
            assert!(advice.iter().all(|advice| word.is_some_and(|word| advice.text.contains(word))), "{advice:?}");
        }
    }

    #[test]
    fn sources_and_counters() {
        for (spec, is) in [
            ("nfs1:/x", true),
            ("[fe80::1]:/x", true),
            ("/dev/sda", false),
            (":/x", false),
            ("nfs1:x", false),
            ("[]:/x", false),
        ] {
            assert_eq!(is_source(spec), is, "{spec}");
        }
        let client = client_counters("net 0 0 0 0\nrpc 123 4 5\nproc3 22 0\n").unwrap();
        assert_eq!((client.calls, client.retransmissions), (123, 4));
        assert_eq!(server_threads("8\n"), Some(8));
        assert_eq!(server_threads("rc 0 0 0\nth 16 0 0.000\n"), Some(16));
        assert_eq!(server_threads(""), None);
        assert_eq!(with_netdev(&["ro".into()]), ["ro", "_netdev"]);
        assert_eq!(with_netdev(&["_netdev".into()]), ["_netdev"]);
    }

    proptest! {
        #[test]
        fn no_input_panics(text: String) {
            let _ = (advice(std::slice::from_ref(&text)), is_source(&text), client_counters(&text), server_threads(&text));
        }
    }
}
