//! SIP messages and session descriptions as correct software writes them.

use std::net::{IpAddr, SocketAddr};

/// A message that is built field by field.
#[derive(Clone, Debug)]
pub struct Sip {
    start: String,
    cseq: String,
    call_id: String,
    pub from: String,
    pub to: String,
    branch: String,
    transport: &'static str,
    extra: String,
    content_type: &'static str,
    body: Vec<u8>,
}

/// Begins a request, with its method in the CSeq.
pub fn request(method: &str, call_id: &str) -> Sip {
    Sip::new(
        format!("{method} sip:bob@example.com SIP/2.0"),
        method,
        call_id,
    )
}

/// Begins a response to a request of this method.
pub fn response(status: u16, method: &str, call_id: &str) -> Sip {
    Sip::new(
        format!("SIP/2.0 {status} {}", reason(status)),
        method,
        call_id,
    )
    .to_tag("bob")
}

impl Sip {
    fn new(start: String, method: &str, call_id: &str) -> Self {
        Self {
            start,
            cseq: format!("1 {method}"),
            call_id: call_id.to_owned(),
            from: "\"Alice\" <sip:alice@example.com>;tag=alice".to_owned(),
            to: "<sip:bob@example.com>".to_owned(),
            branch: format!(
                "z9hG4bK-{call_id}-{}",
                if method == "ACK" || method == "CANCEL" {
                    "INVITE"
                } else {
                    method
                }
            ),
            transport: "UDP",
            extra: String::new(),
            content_type: "application/sdp",
            body: Vec::new(),
        }
    }

    pub fn cseq(mut self, number: u32) -> Self {
        let method = self.cseq.split(' ').nth(1).unwrap().to_owned();
        self.cseq = format!("{number} {method}");
        self.branch = format!("{}-{number}", self.branch);
        self
    }

    /// Sets the CSeq as written: number and method.
    pub fn with_cseq(mut self, cseq: &str) -> Self {
        self.cseq = cseq.to_owned();
        self
    }

    pub fn branch(mut self, branch: &str) -> Self {
        self.branch = format!("z9hG4bK-{branch}");
        self
    }

    pub fn from_tag(mut self, tag: &str) -> Self {
        self.from = format!("\"Alice\" <sip:alice@example.com>;tag={tag}");
        self
    }

    pub fn to_tag(mut self, tag: &str) -> Self {
        self.to = format!("<sip:bob@example.com>;tag={tag}");
        self
    }

    /// Swaps From and To: the callee sends the request.
    pub fn from_callee(mut self) -> Self {
        self.from = "<sip:bob@example.com>;tag=bob".to_owned();
        self.to = "\"Alice\" <sip:alice@example.com>;tag=alice".to_owned();
        self.branch = format!("{}-callee", self.branch);
        self
    }

    /// Sets the transport in the Via.
    pub fn transport(mut self, transport: &'static str) -> Self {
        self.transport = transport;
        self
    }

    pub fn header(mut self, line: &str) -> Self {
        self.extra.push_str(line);
        self.extra.push_str("\r\n");
        self
    }

    pub fn sdp(self, sdp: &Sdp) -> Self {
        self.body("application/sdp", sdp.to_string())
    }

    pub fn body(mut self, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        self.content_type = content_type;
        self.body = body.into();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let content_type = if self.body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: {}\r\n", self.content_type)
        };
        let header = format!(
            "{}\r\nVia: SIP/2.0/{} 192.0.2.1:5060;branch={}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:alice@192.0.2.1:5060>\r\n{}{content_type}Content-Length: {}\r\n\r\n",
            self.start,
            self.transport,
            self.branch,
            self.from,
            self.to,
            self.call_id,
            self.cseq,
            self.extra,
            self.body.len(),
        );
        [header.as_bytes(), &self.body].concat()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        302 => "Moved Temporarily",
        401 => "Unauthorized",
        404 => "Not Found",
        407 => "Proxy Authentication Required",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        603 => "Decline",
        _ => "Whatever",
    }
}

/// A session description with one audio line.
#[derive(Clone, Debug)]
pub struct Sdp {
    session: Vec<String>,
    media: Vec<String>,
}

impl Sdp {
    /// Returns a description of audio at this endpoint.
    pub fn audio(at: SocketAddr) -> Self {
        let family = family(at.ip());
        let session = vec![
            "v=0".to_owned(),
            format!("o=- 1 1 IN {family} {}", at.ip()),
            "s=-".to_owned(),
            format!("c=IN {family} {}", at.ip()),
            "t=0 0".to_owned(),
        ];
        Self {
            session,
            media: vec![format!("m=audio {} RTP/AVP 8 101", at.port())],
        }
        .line("a=rtpmap:8 PCMA/8000")
        .line("a=rtpmap:101 telephone-event/8000")
    }

    /// Replaces the address by a host name.
    pub fn at_host(mut self, name: &str) -> Self {
        let connection = self
            .session
            .iter_mut()
            .find(|line| line.starts_with("c="))
            .unwrap();
        *connection = format!("c=IN IP4 {name}");
        self
    }

    /// Adds a line to the last media description, or another media description.
    pub fn line(mut self, line: &str) -> Self {
        self.media.push(line.to_owned());
        self
    }

    /// Adds a line to the session's part.
    pub fn session_line(mut self, line: &str) -> Self {
        self.session.push(line.to_owned());
        self
    }
}

impl std::fmt::Display for Sdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session
            .iter()
            .chain(&self.media)
            .try_for_each(|line| write!(f, "{line}\r\n"))
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IP4" } else { "IP6" }
}
