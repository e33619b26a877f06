//! SIPp calls SIPp; the callee sends the audio back.

use std::{fs, net::SocketAddr};

use crate::lab::{Lab, Program, Tap};

/// The number and kind of calls.
#[derive(Clone, Copy)]
pub struct Calls {
    /// The number of caller-callee pairs. SIPp has one port for the audio of all its calls, so with
    /// audio the calls of a pair are consecutive.
    pub pairs: u16,
    /// The calls of each pair.
    pub count: usize,
    pub at_once: usize,
    /// The length of the audio in milliseconds; 0 for none.
    pub audio_ms: usize,
    /// SIPp's name: `u1` for UDP, `t1` for TCP with one connection, `tn` with one per call.
    pub transport: &'static str,
    /// Extra bytes in the caller's requests and in the callee's answer with SDP.
    pub padding: usize,
}

pub const UDP: Calls = Calls {
    pairs: 2,
    count: 2,
    at_once: 1,
    audio_ms: 500,
    transport: "u1",
    padding: 0,
};
pub const TCP: Calls = Calls {
    transport: "t1",
    ..UDP
};
/// Padding that does not fit in one frame.
pub const LONG: usize = 2600;

impl Calls {
    pub fn total(&self) -> usize {
        usize::from(self.pairs) * self.count
    }

    /// Makes the calls during a capture. On a busy machine SIPp sometimes gives up: then the calls
    /// are made again, with another capture.
    pub fn captured(&self, lab: &Lab) -> Tap {
        for _ in 0..2 {
            let tap = lab.tap();
            match self.try_to_make(lab) {
                Ok(()) => return tap,
                Err(why) => eprintln!("ONCE MORE: {why}"),
            }
        }
        let tap = lab.tap();
        self.make(lab);
        tap
    }

    /// Makes the calls.
    pub fn make(&self, lab: &Lab) {
        self.try_to_make(lab).unwrap_or_else(|why| panic!("{why}"));
    }

    fn try_to_make(&self, lab: &Lab) -> Result<(), String> {
        let padding = "p".repeat(self.padding.max(1));
        let audio = match self.audio_ms {
            0 => String::new(),
            ms => AUDIO.replace("[pause]", &(ms + 200).to_string()),
        };
        let caller = CALLER.replace("[audio]", &audio);
        fs::write(
            lab.folder().join("caller.xml"),
            caller.replace("[padding]", &padding),
        )
        .unwrap();
        fs::write(
            lab.folder().join("callee.xml"),
            CALLEE.replace("[padding]", &padding),
        )
        .unwrap();
        let audio = vec![0xd5; self.audio_ms * 8];
        fs::write(lab.folder().join("audio.alaw"), audio).unwrap();
        let _callees: Vec<Program> = (0..self.pairs).map(|pair| self.callee(lab, pair)).collect();
        let callers: Vec<Program> = (0..self.pairs).map(|pair| self.caller(lab, pair)).collect();
        for mut caller in callers {
            let status = caller.end();
            if !status.success() {
                return Err(format!(
                    "SIPp was not content with its calls ({status}): {}",
                    caller.said()
                ));
            }
        }
        Ok(())
    }

    fn caller(&self, lab: &Lab, pair: u16) -> Program {
        let (own, audio) = (lab.addresses[0], lab.media[0]);
        let callee = SocketAddr::new(lab.addresses[1], 5060 + pair);
        let (port, media) = (5070 + pair, 28_000 + 10 * pair);
        let Self {
            count,
            at_once,
            transport,
            ..
        } = self;
        let line = format!(
            "sipp -sf caller.xml -i {own} -mi {audio} -p {port} -mp {media} -t {transport} -max_socket 100 \
             -m {count} -l {at_once} -r 50 -nostdin -timeout 20 -timeout_error {callee}"
        );
        Program::start(
            lab.phones[0].command(&line),
            &format!("caller{pair}"),
            lab.folder(),
        )
    }

    fn callee(&self, lab: &Lab, pair: u16) -> Program {
        let (own, audio) = (lab.addresses[1], lab.media[1]);
        let (port, media) = (5060 + pair, 27_000 + 10 * pair);
        // The callee accepts any number of connections.
        let transport = self.transport.replace("tn", "t1");
        let line = format!(
            "sipp -sf callee.xml -i {own} -mi {audio} -p {port} -mp {media} -rtp_echo -t {transport} -nostdin"
        );
        let mut callee = Program::start(
            lab.phones[1].command(&line),
            &format!("callee{pair}"),
            lab.folder(),
        );
        callee.listens(port);
        callee
    }
}

/// Plays the audio, and waits for its end.
const AUDIO: &str = r#"<nop><action><exec rtp_stream="audio.alaw,1,8,PCMA/8000"/></action></nop>
  <pause milliseconds="[pause]"/>"#;

const CALLER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="a caller">
  <send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:sipp@[local_ip]:[local_port]>
Max-Forwards: 70
X-Padding: [padding]
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="200"/>
  <send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
X-Padding: [padding]
Content-Length: 0

]]></send>
  [audio]
  <send retrans="500"><![CDATA[
BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
X-Padding: [padding]
Content-Length: 0

]]></send>
  <recv response="200"/>
</scenario>
"#;

const CALLEE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="a callee that rings and answers">
  <recv request="INVITE"/>
  <send><![CDATA[
SIP/2.0 180 Ringing
[last_Via:]
[last_From:]
[last_To:];tag=[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
Content-Length: 0

]]></send>
  <send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
X-Padding: [padding]
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
]]></send>
  <recv request="ACK"/>
  <recv request="BYE"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"#;
