//! SIP on ports outside the configured range, which the log reports, because the range may be too
//! narrow.

use std::{collections::BTreeMap, fmt};

use crate::{
    packet::Endpoint,
    sip::{Message, StartLine},
};

/// The number of ports that the log names.
const MAX_NAMED: usize = 3;

/// The number of messages by the port of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    by_port: BTreeMap<u16, u64>,
}

impl Elsewhere {
    /// Counts a message. The server's port is the destination of a request and the source of a
    /// response; the client may use any port.
    pub fn note(&mut self, message: &Message<'_>, source: Endpoint, destination: Endpoint) {
        let server = if matches!(message.start, StartLine::Request(_)) {
            destination
        } else {
            source
        };
        self.add(server.port(), 1);
    }

    /// Adds the messages of another chunk.
    pub fn add_all(&mut self, other: &Self) {
        other
            .by_port
            .iter()
            .for_each(|(port, messages)| self.add(*port, *messages));
    }

    /// Returns true if there was no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_port.is_empty()
    }

    fn add(&mut self, port: u16, messages: u64) {
        let count = self.by_port.entry(port).or_default();
        *count = count.saturating_add(messages);
    }
}

/// `12 SIP messages are on other ports: 5080 (10), 5070 (2)`, in descending order of count.
impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self
            .by_port
            .values()
            .fold(0u64, |sum, messages| sum.saturating_add(*messages));
        let mut ports: Vec<(u16, u64)> = self
            .by_port
            .iter()
            .map(|(port, messages)| (*port, *messages))
            .collect();
        ports.sort_by_key(|(port, messages)| (std::cmp::Reverse(*messages), *port));
        let named: Vec<String> = ports
            .iter()
            .take(MAX_NAMED)
            .map(|(port, messages)| format!("{port} ({messages})"))
            .collect();
        write!(
            f,
            "{all} SIP messages are on other ports: {}",
            named.join(", ")
        )?;
        match ports.len().saturating_sub(named.len()) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_port_is_named_whoever_sends() {
        let (client, server) = (
            Endpoint::v4([192, 0, 2, 1], 49_152),
            Endpoint::v4([192, 0, 2, 2], 5080),
        );
        let fields = "Call-ID: 1\r\nf: a\r\nt: b\r\n\r\n";
        let mut elsewhere = Elsewhere::default();
        assert!(elsewhere.is_empty());
        for (line, source, destination) in [
            ("OPTIONS sip:x SIP/2.0", client, server),
            ("SIP/2.0 200 OK", server, client),
            ("BYE sip:x SIP/2.0", server, client),
        ] {
            let text = format!("{line}\r\n{fields}");
            elsewhere.note(
                &Message::parse(text.as_bytes()).unwrap().unwrap(),
                source,
                destination,
            );
        }
        assert_eq!(
            elsewhere.to_string(),
            "3 SIP messages are on other ports: 5080 (2), 49152 (1)"
        );
        let mut all = elsewhere.clone();
        for port in [6060, 7060] {
            elsewhere.add(port, 1);
        }
        all.add_all(&elsewhere);
        assert_eq!(
            all.to_string(),
            "8 SIP messages are on other ports: 5080 (4), 49152 (2), 6060 (1), and 1 more"
        );
    }
}
