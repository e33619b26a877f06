//! Makes a capture of many calls, the same every time, and says what is in it.
//!
//!     cargo run --release --example traffic -- --calls 1000 --bytes 1073741824 big.pcap
//!
//! Calls begin one after the other until `--calls` are up at once; each that ends is followed by another.
//! Each is answered after two seconds of ringing and has 20 ms of G.711 both ways, 50 packets a second each,
//! until it is hung up on. With `--seconds-of-media 0` calls have no media and follow each other at once.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that goes wrong may say so by ending"
)]

mod support;

use std::{
    fs::File,
    io::{BufWriter, Write},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::Parser;
use shared::pcap::{DEFAULT_SNAPLEN, LinkType, Precision, file_header, record_header};
use support::{
    MS, SECOND, frames,
    ladder::START_NS,
    media::Rtp,
    sip::{Sdp, request, response},
};

#[derive(Parser)]
struct Arguments {
    /// How many calls are up at once.
    #[arg(long, default_value_t = 10)]
    calls: u32,
    /// When to let the calls end: about the size of the file.
    #[arg(long, default_value_t = 1_000_000)]
    bytes: u64,
    /// How long each call talks, about.
    #[arg(long, default_value_t = 30)]
    seconds_of_media: u64,
    /// The file to write.
    file: PathBuf,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let mut traffic = Traffic::to(&arguments.file)?;
    traffic.generate(&arguments)?;
    traffic.file.flush()?;
    let Traffic { bytes, packets, begun, sip, rtp, .. } = traffic;
    println!(
        "{}: {bytes} bytes, {packets} packets, {begun} calls, {sip} SIP messages, {rtp} RTP packets",
        arguments.file.display()
    );
    Ok(())
}

/// One frame of speech.
const TICK: u64 = 20 * MS;
const RINGING_TICKS: u64 = 100;

struct Traffic {
    file: BufWriter<File>,
    bytes: u64,
    packets: u64,
    begun: u64,
    sip: u64,
    rtp: u64,
}

/// A call that is up, and how far it is.
struct Call {
    number: u64,
    tick: u64,
    ends_at: u64,
    /// A datagram of each direction, to be stamped and sent again and again.
    media: [Vec<u8>; 2],
}

impl Call {
    fn hang_up_soon(&mut self) {
        self.ends_at = self.ends_at.min(self.tick.max(RINGING_TICKS + 1));
    }
}

impl Traffic {
    fn to(path: &std::path::Path) -> std::io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let header = file_header(LinkType::ETHERNET, Precision::Micro, DEFAULT_SNAPLEN);
        file.write_all(&header)?;
        Ok(Self { file, bytes: header.len() as u64, packets: 0, begun: 0, sip: 0, rtp: 0 })
    }

    fn generate(&mut self, arguments: &Arguments) -> std::io::Result<()> {
        let slots = u64::from(arguments.calls.max(1));
        // Calls begin over the first two seconds of ringing, so that they do not go in step.
        let per_tick = slots.div_ceil(RINGING_TICKS);
        let mut up: Vec<Call> = Vec::new();
        let mut now = START_NS;
        loop {
            let room = slots - up.len() as u64;
            let begin = if self.bytes < arguments.bytes { room.min(per_tick) } else { 0 };
            for _ in 0..begin {
                up.push(self.begin(arguments.seconds_of_media));
            }
            if up.is_empty() {
                return Ok(());
            }
            let step = TICK / (up.len() as u64 * 2 + 1);
            for (index, call) in up.iter_mut().enumerate() {
                self.advance(call, now + index as u64 * 2 * step, step)?;
            }
            up.retain(|call| call.tick <= call.ends_at);
            if self.bytes >= arguments.bytes {
                up.iter_mut().for_each(Call::hang_up_soon);
            }
            now += TICK;
        }
    }

    fn begin(&mut self, seconds_of_media: u64) -> Call {
        let number = self.begun;
        self.begun += 1;
        // From half to one and a half times as long, the same every time.
        let ticks = seconds_of_media * SECOND / TICK;
        let ends_at = if ticks == 0 { 2 } else { RINGING_TICKS + ticks / 2 + number * 7919 % ticks };
        let (caller, callee) = (caller_media(number), callee_media(number));
        let template = |from, to, side| frames::udp(from, to, &Rtp::new(number as u32 * 2 + side, 0).bytes());
        Call { number, tick: 0, ends_at, media: [template(caller, callee, 0), template(callee, caller, 1)] }
    }

    /// One tick of a call: what its two sides send within 20 ms.
    fn advance(&mut self, call: &mut Call, now: u64, step: u64) -> std::io::Result<()> {
        let has_media = call.ends_at > RINGING_TICKS;
        let answered = if has_media { RINGING_TICKS } else { 1 };
        let (tick, id) = (call.tick, format!("{:08x}@192.0.2.1", call.number));
        call.tick += 1;
        let (offer, answer) = (Sdp::audio(caller_media(call.number)), Sdp::audio(callee_media(call.number)));
        if tick == 0 {
            self.send(now, CALLER, PROXY, &request("INVITE", &id).sdp(&offer).bytes())?;
            self.send(now + step / 3, PROXY, CALLER, &response(100, "INVITE", &id).bytes())?;
            self.send(now + step / 2, PROXY, CALLER, &response(180, "INVITE", &id).bytes())
        } else if tick == answered {
            self.send(now, PROXY, CALLER, &response(200, "INVITE", &id).sdp(&answer).bytes())?;
            self.send(now + step, CALLER, PROXY, &request("ACK", &id).to_tag("bob").branch(&format!("{id}-ack")).bytes())
        } else if tick == call.ends_at {
            self.send(now, CALLER, PROXY, &request("BYE", &id).cseq(2).to_tag("bob").bytes())?;
            self.send(now + step, PROXY, CALLER, &response(200, "BYE", &id).cseq(2).bytes())
        } else if tick > answered {
            self.talk(call, tick - answered, now, step)
        } else {
            Ok(())
        }
    }

    fn talk(&mut self, call: &mut Call, packet: u64, now: u64, step: u64) -> std::io::Result<()> {
        for (side, frame) in call.media.iter_mut().enumerate() {
            const RTP: usize = 42;
            frame[RTP + 2..RTP + 4].copy_from_slice(&(packet as u16).to_be_bytes());
            frame[RTP + 4..RTP + 8].copy_from_slice(&(packet as u32 * 160).to_be_bytes());
            self.rtp += 1;
            let at = now + side as u64 * step;
            let len = frame.len() as u32;
            self.file.write_all(&record_header(at, Precision::Micro, len, len))?;
            self.file.write_all(frame)?;
            self.packets += 1;
            self.bytes += 16 + u64::from(len);
        }
        Ok(())
    }

    fn send(&mut self, at: u64, from: SocketAddr, to: SocketAddr, message: &[u8]) -> std::io::Result<()> {
        let frame = frames::udp(from, to, message);
        let len = frame.len() as u32;
        self.file.write_all(&record_header(at, Precision::Micro, len, len))?;
        self.file.write_all(&frame)?;
        self.sip += 1;
        self.packets += 1;
        self.bytes += 16 + u64::from(len);
        Ok(())
    }
}

const CALLER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 5060);

/// Each call has an endpoint of its own, for as long as anybody can tell.
fn caller_media(number: u64) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 1, (number / 25_000 % 256) as u8, 1).into(), 10_000 + (number % 25_000) as u16 * 2)
}

fn callee_media(number: u64) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 2, (number / 25_000 % 256) as u8, 1).into(), 10_000 + (number % 25_000) as u16 * 2)
}
