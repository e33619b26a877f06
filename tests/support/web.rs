//! Web traffic, the same in every run: the surroundings of the calls in a capture of a whole
//! network.
//!
//! Each connection begins with a DNS query, and is HTTP or TLS: one request, and some hundred full
//! segments in response. When it has ended, another follows.

use std::net::SocketAddr;

use crate::{dice::Dice, frames};

/// The largest payload of a segment.
const FULL: usize = 1448;
/// The number of segments in a response.
const ANSWER: u64 = 100;
/// The number of segments with different contents.
const KINDS: usize = 64;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Web connections that are active at once.
pub struct Web {
    connections: Vec<Connection>,
    /// The number of connections so far.
    begun: u64,
    /// The contents of segments, plain and encrypted.
    pages: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
}

struct Connection {
    number: u64,
    /// The number of segments sent in response.
    sent: u64,
    sequence: u32,
}

impl Web {
    pub fn new(connections: u32) -> Self {
        let mut dice = Dice::new(0);
        let words = [
            "<div class=\"row\">",
            "var x = 1;\n",
            "The quick fox ",
            "SUBSCRIBE now\n",
            "</p>\r\n",
            "GET in touch ",
            "a{b:c}",
        ];
        let mut page = |_| {
            let text: String = (0..FULL).map(|_| *dice.one_of(&words)).collect();
            text.into_bytes()[..FULL].to_vec()
        };
        let pages = (0..KINDS).map(&mut page).collect();
        let records = (0..KINDS)
            .map(|_| (0..FULL).map(|_| dice.below(256) as u8).collect())
            .collect();
        // Connections begin at different times.
        let connection = |number| Connection {
            number,
            sent: number * 7 % ANSWER + 1,
            sequence: 1,
        };
        let connections: Vec<_> = (0..u64::from(connections)).map(connection).collect();
        Self {
            begun: connections.len() as u64,
            connections,
            pages,
            records,
        }
    }

    /// Returns the Ethernet frames within 20 ms.
    pub fn tick(
        &mut self,
        mut send: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        for connection in &mut self.connections {
            if connection.sent == ANSWER {
                send(&connection.from_server(FIN | ACK, &[]))?;
                *connection = Connection {
                    number: self.begun,
                    sent: 0,
                    sequence: 1,
                };
                self.begun += 1;
                connection.open().iter().try_for_each(|frame| send(frame))?;
            }
            for _ in 0..2 {
                let kinds = if connection.is_tls() {
                    &self.records
                } else {
                    &self.pages
                };
                let content = &kinds[(connection.number * 31 + connection.sent) as usize % KINDS];
                send(&connection.from_server(ACK, content))?;
                connection.sent += 1;
                connection.sequence += FULL as u32;
            }
            let (client, server) = connection.ends();
            send(&frames::tcp(client, server, 2, ACK, &[]))?;
        }
        Ok(())
    }
}

impl Connection {
    fn is_tls(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let client = SocketAddr::from((
            [10, 3, (self.number / 200 % 200) as u8, 1],
            32_768 + (self.number * 13 % 28_000) as u16,
        ));
        (
            client,
            SocketAddr::from((
                [203, 0, 113, (self.number % 50) as u8],
                if self.is_tls() { 443 } else { 80 },
            )),
        )
    }

    fn from_server(&self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (client, server) = self.ends();
        frames::tcp(server, client, self.sequence, flags, payload)
    }

    /// Returns a query for the server's address, the handshake, the request, and the start of the
    /// response.
    fn open(&mut self) -> Vec<Vec<u8>> {
        let (client, server) = self.ends();
        let resolver = SocketAddr::from(([10, 3, 0, 53], 53));
        let question = [
            &(self.number as u16).to_be_bytes()[..],
            b"\x01\x00\x00\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01",
        ]
        .concat();
        let request: &[u8] = if self.is_tls() {
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        } else {
            b"GET /index.html HTTP/1.1\r\nHost: www.example\r\nAccept: */*\r\n\r\n"
        };
        let answer: &[u8] = if self.is_tls() {
            b"\x16\x03\x03\x00\x7a\x02\x00"
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
        };
        let opening = vec![
            frames::udp(client, resolver, &question),
            frames::udp(resolver, client, &question),
            frames::tcp(client, server, 0, SYN, &[]),
            frames::tcp(server, client, 0, SYN | ACK, &[]),
            frames::tcp(client, server, 1, ACK, request),
            self.from_server(ACK, answer),
        ];
        self.sequence += answer.len() as u32;
        opening
    }
}
