//! The whole job: open the interfaces, drop privileges, enter the sandbox, capture and repair in
//! parallel, supervise, end.

use std::{
    io, mem,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow};
use nix::unistd::gethostname;
use shared::{pcap::LinkType, segment::SegmentName, service};

use crate::{
    capture::{Source, Tap, TapError},
    cli::Arguments,
    clock::{Pace, monotonic, wall_ns},
    drops::CountedDrops,
    gather::{Gatherer, Namer},
    housekeeping::Housekeeper,
    privileges,
    recorder::{Control, Recorder},
    ring::{Chunk, Ring},
    sandbox,
    segment_dir::{Repaired, SegmentDir},
    signals::{self, Request},
    tally::{SegmentDirTally, Snapshot, Tally},
    writer::Writer,
};

/// How often the supervisor runs.
const TICK: Duration = Duration::from_millis(250);

/// How often the end checks whether all threads have ended.
const END_TICK: Duration = Duration::from_millis(20);

/// How often the service manager gets a new status line.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How often the log repeats that the end waits for a disk.
const REMIND_EVERY: Duration = Duration::from_secs(5);

/// Drops are logged at most this often.
const DROPS_EVERY: Duration = Duration::from_secs(10);

/// The capture of one interface with its threads.
struct InterfaceCapture {
    interface: String,
    control: Arc<Control>,
    tally: Arc<Tally>,
    ring: Arc<Ring>,
    recorder: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl InterfaceCapture {
    /// True when no thread is left to wait for.
    fn has_ended(&self) -> bool {
        self.recorder.is_finished() && (self.writer.is_finished() || !self.tally.is_done.get())
    }

    /// True if a thread has ended too early, which is a bug: the other threads save their packets,
    /// and the agent ends.
    fn has_died(&self) -> bool {
        self.writer.is_finished() || self.recorder.is_finished() && !self.tally.is_done.get()
    }
}

/// Captures until a signal or a limit in the arguments ends it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let signals = signals::catch().context("cannot catch signals")?;
    privileges::raise_needed();
    let user = arguments
        .user
        .as_deref()
        .map(privileges::user_of_name)
        .transpose()?;
    let sources = sources(arguments);
    let taps = sources
        .iter()
        .map(Source::open)
        .collect::<Result<Vec<Tap>, TapError>>()?;
    let instance = arguments.instance.clone().unwrap_or_else(short_host_name);
    let segment_dir = SegmentDir::new(&arguments.output_dir, &instance, &arguments.interface);
    segment_dir.prepare(user.as_ref().map(|user| (user.uid, user.gid)))?;
    privileges::drop_to(user.as_ref())?;
    segment_dir.check_access()?;
    // The sandbox must be entered before the first thread starts.
    if !arguments.no_sandbox {
        sandbox::enter();
    }
    let newest = newest_of_each(&segment_dir, arguments);
    let left = unrepaired_parts(&segment_dir);

    let (requests, requested) = mpsc::channel();
    signals::pass_on(signals, requests)
        .context("cannot start the thread that waits for signals")?;
    let repair = Arc::new(repair(segment_dir.clone(), left).context("cannot start a thread")?);
    let points = sources
        .into_iter()
        .zip(taps)
        .zip(newest)
        .map(|((source, tap), newest)| {
            let namer = Namer::new(&instance, &source.interface, newest.as_ref(), wall_ns());
            start(arguments, source, tap, namer, Arc::clone(&repair))
                .context("cannot start a thread")
        });
    let points = points.collect::<anyhow::Result<Vec<InterfaceCapture>>>()?;
    let (until, housekeeping) =
        start_housekeeping(arguments, segment_dir, &points).context("cannot start a thread")?;
    service::ready();
    let reporters = supervise(arguments, &points, &requested);
    service::stopping();
    end(points, reporters, &requested)?;
    drop(until);
    housekeeping
        .join()
        .map_err(|_| anyhow!("the housekeeping thread died: this is a bug"))
}

/// Returns the filter of each interface, or that of Ethernet if no interface is given.
pub(crate) fn filters(arguments: &Arguments) -> Result<Vec<String>, TapError> {
    if arguments.interface.is_empty() {
        return Ok(vec![arguments.filter().expression(LinkType::ETHERNET)]);
    }
    privileges::raise_needed();
    sources(arguments)
        .iter()
        .map(|source| Ok(source.open()?.filter().to_owned()))
        .collect()
}

fn sources(arguments: &Arguments) -> Vec<Source> {
    let source = |interface: &String| Source {
        interface: interface.clone(),
        filter: arguments.filter(),
        snaplen: arguments.snaplen,
        buffer_bytes: u32::try_from(arguments.buffer_size.0).unwrap_or(u32::MAX),
        promiscuous: arguments.promiscuous,
        precision: arguments.precision(),
    };
    arguments.interface.iter().map(source).collect()
}

fn short_host_name() -> String {
    let host_name = gethostname().unwrap_or_default();
    host_name
        .to_string_lossy()
        .split('.')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Returns the newest segment of each interface. Part files count, repaired or not: their names
/// come before those of this run.
fn newest_of_each(segment_dir: &SegmentDir, arguments: &Arguments) -> Vec<Option<SegmentName>> {
    arguments
        .interface
        .iter()
        .map(|interface| segment_dir.newest(interface).unwrap_or_default())
        .collect()
}

/// Lists the part files of earlier runs, before this run creates one. The capture goes on without
/// the list if the directory cannot be read.
fn unrepaired_parts(segment_dir: &SegmentDir) -> Vec<SegmentName> {
    segment_dir.parts().unwrap_or_else(|error| {
        tracing::error!("part files of an earlier run are not repaired: {error}");
        Vec::new()
    })
}

/// Repairs part files in a thread of its own: they may be large, and their disk may hang. No
/// capture waits for it.
fn repair(segment_dir: SegmentDir, parts: Vec<SegmentName>) -> io::Result<JoinHandle<()>> {
    let repair = move || {
        for name in parts {
            match segment_dir.repair(&name) {
                Err(error) => {
                    tracing::error!("a part file of an earlier run stays as it is: {error}");
                }
                Ok(Some(Repaired::Closed(path, cut_bytes))) => {
                    tracing::warn!(segment = %path.display(), cut_bytes, "repaired a segment of an earlier run");
                }
                Ok(Some(Repaired::Removed(path))) => {
                    tracing::info!(
                        "removed {}: an earlier run wrote no packet to it",
                        path.display()
                    );
                }
                Ok(None) => {}
            }
        }
    };
    thread::Builder::new()
        .name("repair".to_owned())
        .spawn(repair)
}

fn start(
    arguments: &Arguments,
    source: Source,
    tap: Tap,
    namer: Namer,
    repair: Arc<JoinHandle<()>>,
) -> io::Result<InterfaceCapture> {
    let interface = source.interface.clone();
    tracing::info!(%interface, filter = tap.filter(), link = %tap.format().link, "capturing");
    let (control, tally) = (Arc::<Control>::default(), Arc::<Tally>::default());
    let ring = Arc::new(Ring::new(
        usize::try_from(arguments.queue_size.0).unwrap_or(usize::MAX),
    ));
    let counted = Arc::<CountedDrops>::default();
    let gatherer = Gatherer::new(
        Arc::clone(&ring),
        Arc::clone(&tally),
        Arc::clone(&counted),
        namer,
        arguments.rotation(),
        tap.format(),
        arguments.empty_segments,
    );
    let wanted = arguments.count.unwrap_or(u64::MAX);
    let recorder = Recorder::new(
        source,
        tap,
        gatherer,
        Arc::clone(&control),
        Arc::clone(&tally),
        wanted,
    );
    let writer = Writer::new(
        &arguments.output_dir,
        Arc::clone(&ring),
        Arc::clone(&tally),
        counted,
        repair,
    );
    let writer = thread::Builder::new()
        .name(format!("write {interface}"))
        .spawn(move || writer.run())?;
    let recorder = thread::Builder::new()
        .name(format!("read {interface}"))
        .spawn(move || recorder.run())?;
    Ok(InterfaceCapture {
        interface,
        control,
        tally,
        ring,
        recorder,
        writer,
    })
}

fn start_housekeeping(
    arguments: &Arguments,
    segment_dir: SegmentDir,
    points: &[InterfaceCapture],
) -> io::Result<(Sender<()>, JoinHandle<()>)> {
    let (end, until) = mpsc::channel();
    let housekeeper = Housekeeper {
        segment_dir,
        limits: arguments.retention(),
        metrics_file: arguments.metrics_file.clone(),
        interfaces: points
            .iter()
            .map(|point| (point.interface.clone(), Arc::clone(&point.tally)))
            .collect(),
        tally: Arc::<SegmentDirTally>::default(),
    };
    let thread = thread::Builder::new()
        .name("housekeeping".to_owned())
        .spawn(move || housekeeper.run(&until))?;
    Ok((end, thread))
}

/// Supervises the captures until they are to end.
fn supervise(
    arguments: &Arguments,
    points: &[InterfaceCapture],
    requested: &Receiver<Request>,
) -> Vec<Reporter> {
    let begun = monotonic();
    let is_time = || {
        arguments
            .duration
            .is_some_and(|duration| begun.elapsed() >= duration.0)
    };
    let are_done = || points.iter().all(|point| point.recorder.is_finished());
    let mut supervisor = Supervisor::new(arguments, points);
    while !is_time() && !are_done() && !points.iter().any(InterfaceCapture::has_died) {
        match requested.recv_timeout(TICK) {
            Ok(Request::End) => {
                tracing::info!("ending");
                break;
            }
            Ok(Request::Rotate) => points.iter().for_each(|point| point.control.rotate()),
            Ok(Request::Report) => supervisor.report(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        supervisor.look_around();
    }
    supervisor.reporters
}

struct Supervisor<'a> {
    points: &'a [InterfaceCapture],
    reporters: Vec<Reporter>,
    statistics: Option<Pace>,
    status: Pace,
    watchdog: Watchdog,
}

impl<'a> Supervisor<'a> {
    fn new(arguments: &Arguments, points: &'a [InterfaceCapture]) -> Self {
        Self {
            points,
            reporters: points.iter().map(|_| Reporter::default()).collect(),
            statistics: arguments.stats_interval().map(Pace::after),
            status: Pace::at_once(STATUS_EVERY),
            watchdog: Watchdog::new(),
        }
    }

    fn look_around(&mut self) {
        self.watchdog.notify(self.points);
        if self.statistics.as_mut().is_some_and(Pace::is_due) {
            self.report();
        }
        for (point, reporter) in self.points.iter().zip(&mut self.reporters) {
            point
                .tally
                .queue_bytes
                .set(u64::try_from(point.ring.bytes()).unwrap_or(u64::MAX));
            reporter.warn_of_drops(point);
        }
        if self.status.is_due() {
            service::status(&status_line(self.points));
        }
    }

    fn report(&mut self) {
        for (point, reporter) in self.points.iter().zip(&mut self.reporters) {
            reporter.report(&point.interface, &point.tally);
        }
    }
}

/// Ends all captures, then their writers: no captured packet is lost. The service manager decides
/// how long a disk may take, because it kills a service that does not end in time.
fn end(
    points: Vec<InterfaceCapture>,
    mut reporters: Vec<Reporter>,
    requested: &Receiver<Request>,
) -> anyhow::Result<()> {
    points.iter().for_each(|point| point.control.end());
    let mut remind = Pace::after(REMIND_EVERY);
    while !points.iter().all(InterfaceCapture::has_ended) {
        // Any request is ignored: the agent is ending.
        if requested.recv_timeout(END_TICK) == Err(RecvTimeoutError::Disconnected) {
            break;
        }
        // Without its writer the ring never empties, so the capture must not wait for it.
        let is_alone =
            |point: &&InterfaceCapture| point.writer.is_finished() && !point.recorder.is_finished();
        points
            .iter()
            .filter(is_alone)
            .for_each(|point| point.tally.is_refused.set(true));
        if remind.is_due() {
            for point in points.iter().filter(|point| !point.writer.is_finished()) {
                let waiting_bytes = point.ring.bytes();
                tracing::warn!(interface = %point.interface, waiting_bytes, "the end waits for the disk");
            }
            service::status(&format!(
                "the end waits for the disk: {}",
                status_line(&points)
            ));
        }
    }
    let mut failed = Vec::new();
    for (point, reporter) in points.into_iter().zip(&mut reporters) {
        let reader = point.recorder.join();
        if reader.is_err() {
            // The recorder died without closing the ring: the writer would wait for ever.
            point.ring.close(Chunk::default());
        }
        let writer = point.writer.join();
        reporter.report(&point.interface, &point.tally);
        if reader.is_err() || writer.is_err() {
            failed.push(point.interface);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(anyhow!(
            "a thread of {} died: this is a bug",
            failed.join(", ")
        ))
    }
}

fn status_line(points: &[InterfaceCapture]) -> String {
    let of_point = |point: &InterfaceCapture| {
        let Snapshot {
            received,
            disk_dropped,
            kernel_dropped,
            ..
        } = point.tally.snapshot();
        let state = match (point.tally.is_capturing.get(), point.tally.is_refused.get()) {
            (false, _) => " (away)",
            (true, true) => " (the disk refuses writes)",
            (true, false) => "",
        };
        let interface = &point.interface;
        format!(
            "{interface}{state}: {received} packets, dropped {kernel_dropped} by the kernel, {disk_dropped} for the disk"
        )
    };
    points.iter().map(of_point).collect::<Vec<_>>().join("; ")
}

/// Logs the counters of one interface that have changed.
struct Reporter {
    reported: Snapshot,
    warned: Snapshot,
    drops: Pace,
}

impl Default for Reporter {
    fn default() -> Self {
        Self {
            reported: Snapshot::default(),
            warned: Snapshot::default(),
            drops: Pace::at_once(DROPS_EVERY),
        }
    }
}

impl Reporter {
    /// Logs the totals, and the packets since the last report.
    fn report(&mut self, interface: &str, tally: &Tally) {
        let now = tally.snapshot();
        let before = mem::replace(&mut self.reported, now);
        tracing::info!(
            %interface,
            packets = now.received,
            new = now.received.saturating_sub(before.received),
            bytes = now.received_bytes,
            written = now.written,
            segments = now.segments,
            kernel_dropped = now.kernel_dropped,
            interface_dropped = now.interface_dropped,
            disk_dropped = now.disk_dropped,
            "captured"
        );
    }

    fn warn_of_drops(&mut self, point: &InterfaceCapture) {
        let now = point.tally.snapshot();
        if now.dropped() > self.warned.dropped() && self.drops.is_due() {
            let before = mem::replace(&mut self.warned, now);
            tracing::warn!(
                interface = %point.interface,
                kernel = now.kernel_dropped.saturating_sub(before.kernel_dropped),
                in_interface = now.interface_dropped.saturating_sub(before.interface_dropped),
                disk = now.disk_dropped.saturating_sub(before.disk_dropped),
                "packets were dropped"
            );
        }
    }
}

/// Notifies the service manager as long as every capture makes progress. The disk does not count:
/// one that hangs costs counted packets, and a restart would also lose those that wait in memory.
struct Watchdog {
    pace: Option<Pace>,
    heartbeats: Vec<u64>,
}

impl Watchdog {
    fn new() -> Self {
        Self {
            pace: service::watchdog().map(Pace::at_once),
            heartbeats: Vec::new(),
        }
    }

    fn notify(&mut self, points: &[InterfaceCapture]) {
        if !self.pace.as_mut().is_some_and(Pace::is_due) {
            return;
        }
        let heartbeats: Vec<u64> = points
            .iter()
            .map(|point| point.tally.heartbeat.get())
            .collect();
        let all_go_on =
            points
                .iter()
                .zip(&heartbeats)
                .enumerate()
                .all(|(at, (point, heartbeat))| {
                    point.recorder.is_finished() || self.heartbeats.get(at) != Some(heartbeat)
                });
        self.heartbeats = heartbeats;
        if all_go_on {
            service::alive();
        }
    }
}
