//! The last words of a process that dies while it reads its input: the signal and, if the disk
//! fails to deliver a mapped file, the file and the offset.
//!
//! They go to the note of segments that are being read (`attempts.rs`), for the next run, and to
//! standard error. Signal handlers may do little (signal-safety(7)): these write to files that are
//! already open, from tables that are already filled.
//! already, from tables that are filled already.
#![allow(unsafe_code, reason = "handlers of signals, and what they read")]

use std::{
    ffi::{OsStr, c_int, c_void},
    fs::File,
    mem,
    os::{fd::IntoRawFd, unix::ffi::OsStrExt},
    panic,
    path::Path,
    ptr,
    sync::{
        Once,
        atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering},
    },
};

use nix::libc;

/// The offset of the word in the note; it is followed by the offset, the length of the path, and
/// the path.
const WORD_AT: usize = 8;
const OFFSET_AT: usize = 16;
const LEN_AT: usize = 24;
pub(crate) const PATH_AT: usize = 28;
/// The longest path that the system allows.
pub(crate) const MAX_PATH: usize = 4096;

/// The code of a panic: no signal has this number.
const PANIC: u8 = 255;
/// The code of a note that could not be removed: no signal has this number, either.
const NEVER_MIND: u8 = 254;

/// The signals of faults of the process itself. SIGABRT is also the signal that systemd sends to a
/// service that hangs.
const DEADLY: [c_int; 5] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
];

/// The most named files in memory; a process usually has fewer.
const MAX_MAPS: usize = 16_384;

static NOTE: AtomicI32 = AtomicI32::new(-1);
static MAPS: [Slot; MAX_MAPS] = [const { Slot::new() }; MAX_MAPS];
/// The slot that is likely to be free.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// The earlier action for each of [`DEADLY`].
static BEFORE: [AtomicPtr<libc::sigaction>; DEADLY.len()] =
    [const { AtomicPtr::new(ptr::null_mut()) }; DEADLY.len()];

/// A file in memory.
struct Slot {
    /// The first address of the file; 0 if the slot is free, 1 while it changes.
    start: AtomicUsize,
    len: AtomicUsize,
    path: AtomicPtr<Vec<u8>>,
}

impl Slot {
    const fn new() -> Self {
        Self {
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            path: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

/// A named file in memory, registered as long as this value lives.
#[derive(Debug)]
pub(super) struct Registered(Option<usize>);

impl Registered {
    /// Registers `bytes`, the map of the file at `path`.
    pub(super) fn new(bytes: &[u8], path: &Path) -> Self {
        listen();
        if bytes.is_empty() {
            return Self(None);
        }
        let first = NEXT.load(Ordering::Relaxed);
        let slots = (0..MAX_MAPS).map(|n| first.wrapping_add(n) % MAX_MAPS);
        for (number, slot) in slots.filter_map(|number| Some((number, MAPS.get(number)?))) {
            if slot
                .start
                .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                slot.len.store(bytes.len(), Ordering::Relaxed);
                slot.path.store(
                    Box::into_raw(Box::new(path.as_os_str().as_bytes().to_vec())),
                    Ordering::Relaxed,
                );
                slot.start.store(bytes.as_ptr().addr(), Ordering::Release);
                NEXT.store(number.wrapping_add(1), Ordering::Relaxed);
                return Self(Some(number));
            }
        }
        Self(None)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some(slot) = self.0.and_then(|number| MAPS.get(number)) else {
            return;
        };
        slot.start.store(1, Ordering::Relaxed);
        let path = slot.path.swap(ptr::null_mut(), Ordering::AcqRel);
        if !path.is_null() {
            // SAFETY: the pointer came from `Box::into_raw`, and nobody else has it: a handler
            // looks only at slots that are in use.
            drop(unsafe { Box::from_raw(path) });
        }
        slot.start.store(0, Ordering::Release);
    }
}

/// Writes last words to this note from now on.
pub(crate) fn go_to(note: File) {
    listen();
    close(NOTE.swap(note.into_raw_fd(), Ordering::AcqRel));
}

/// Registers the note while nothing is being read.
pub(crate) fn go_nowhere(note: File) {
    drop(note);
    close(NOTE.swap(-1, Ordering::AcqRel));
}

/// Marks a note that is obsolete, but cannot be removed.
pub(crate) fn never_mind() {
    say(NEVER_MIND);
}

fn close(file: c_int) {
    if file >= 0 {
        // SAFETY: nobody else has the file: it was taken out of `NOTE`.
        let _ = unsafe { libc::close(file) };
    }
}

/// The last words in a note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastWords {
    code: u8,
    /// The file in memory that could not be read, and the offset.
    pub(crate) fault: Option<(std::path::PathBuf, u64)>,
}

impl LastWords {
    /// Reads the last words in the bytes of a note.
    pub(crate) fn of(note: &[u8]) -> Self {
        let code = note.get(WORD_AT).copied().unwrap_or(0);
        let offset = note
            .get(OFFSET_AT..)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u64::from_ne_bytes(*bytes));
        let len = note
            .get(LEN_AT..)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u32::from_ne_bytes(*bytes) as usize);
        let path = len
            .filter(|len| *len > 0)
            .and_then(|len| note.get(PATH_AT..PATH_AT.saturating_add(len)));
        let fault = path
            .zip(offset)
            .map(|(path, offset)| (Path::new(OsStr::from_bytes(path)).to_owned(), offset));
        Self { code, fault }
    }

    /// The cause of the process's death, if it was recorded.
    pub(crate) fn death(&self) -> Option<String> {
        match self.code {
            0 => None,
            PANIC => Some("a panic".to_owned()),
            code => Some(format!("signal {code}")),
        }
    }

    /// True when the process did not die, but could not remove the note.
    pub(crate) fn is_none(&self) -> bool {
        self.code == NEVER_MIND
    }
}

fn say(code: u8) {
    write_at(&[code], WORD_AT);
}

fn write_at(bytes: &[u8], at: usize) {
    let note = NOTE.load(Ordering::Acquire);
    if note >= 0 {
        // SAFETY: the bytes are valid, and pwrite may be called in a handler.
        let _ = unsafe {
            libc::pwrite(
                note,
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::off_t::try_from(at).unwrap_or(0),
            )
        };
    }
}

/// Installs the handlers for signals and panics, once.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (signal, before) in DEADLY.iter().zip(&BEFORE) {
            // SAFETY: both structures are initialized: all zeros is a `sigaction` without flags and
            // with an empty mask.
            unsafe {
                let mut action: libc::sigaction = mem::zeroed();
                action.sa_sigaction = handle
                    as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)
                    as libc::sighandler_t;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                let mut previous: libc::sigaction = mem::zeroed();
                if libc::sigaction(*signal, &raw const action, &raw mut previous) == 0 {
                    before.store(Box::into_raw(Box::new(previous)), Ordering::Release);
                }
            }
        }
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            say(PANIC);
            before(what);
        }));
    });
}

/// Records the signal, and then lets the earlier action happen.
extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the system passes it to handlers that ask for it.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Excludes signals that another process or the kernel sent on purpose.
    let is_own_doing = code > 0 && code < libc::SI_KERNEL;
    say(u8::try_from(signal).unwrap_or(0));
    if signal == libc::SIGBUS && is_own_doing {
        tell_of_file(address);
    }
    let place = DEADLY.iter().position(|deadly| *deadly == signal);
    let before = place
        .and_then(|place| BEFORE.get(place))
        .map_or(ptr::null_mut(), |before| before.load(Ordering::Acquire));
    // SAFETY: the stored pointers are never freed. All three functions may be called in a handler.
    unsafe {
        // The process repeats its own fault when this returns; the standard library reports a stack
        // overflow.
        if !is_own_doing
            || before.is_null()
            || libc::sigaction(signal, before, ptr::null_mut()) != 0
        {
            libc::signal(signal, libc::SIG_DFL);
        }
        if !is_own_doing {
            libc::raise(signal);
        }
    }
}

/// If an address is in a mapped file, ends the process with the file's name, like any other input
/// that cannot be read.
fn tell_of_file(address: usize) {
    for slot in &MAPS {
        let start = slot.start.load(Ordering::Acquire);
        let Some(offset) = address
            .checked_sub(start)
            .filter(|offset| start > 1 && *offset < slot.len.load(Ordering::Relaxed))
        else {
            continue;
        };
        // SAFETY: the slot is in use, otherwise there would be no fault, so its path is valid.
        let Some(path) = (unsafe { slot.path.load(Ordering::Relaxed).as_ref() }) else {
            continue;
        };
        let path = path.get(..MAX_PATH).unwrap_or(path);
        write_at(path, PATH_AT);
        write_at(&(offset as u64).to_ne_bytes(), OFFSET_AT);
        write_at(
            &u32::try_from(path.len()).unwrap_or(0).to_ne_bytes(),
            LEN_AT,
        );
        let mut digits = [0; 20];
        for text in [
            &b"ERROR "[..],
            path,
            CANNOT_BE_READ,
            decimal(offset, &mut digits),
            WAS_CUT,
        ] {
            // SAFETY: the bytes are valid, and write may be called in a handler.
            let _ = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        }
        // SAFETY: `_exit` may be called in a handler.
        unsafe { libc::_exit(1) };
    }
}

const CANNOT_BE_READ: &[u8] = b" cannot be read at offset ";
const WAS_CUT: &[u8] =
    b": an input became shorter while it was read, or the disk failed; use captures that no program \
    writes any more. Published files are right; the next run removes unfinished files, and resumes\n";

/// A number as text.
fn decimal(number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = number;
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        // A digit is less than ten.
        *digit = b'0'.wrapping_add((rest % 10) as u8);
        at = at.saturating_sub(1);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_do() {
        for number in [0, 7, 10, 4096, usize::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_word_is_read_as_it_was_written() {
        let mut note = vec![0; PATH_AT + MAX_PATH];
        assert_eq!(LastWords::of(&note).death(), None);
        note[WORD_AT] = 7;
        note[OFFSET_AT..OFFSET_AT + 8].copy_from_slice(&8192u64.to_ne_bytes());
        note[LEN_AT..LEN_AT + 4].copy_from_slice(&6u32.to_ne_bytes());
        note[PATH_AT..PATH_AT + 6].copy_from_slice(b"/a/b.p");
        let word = LastWords::of(&note);
        assert_eq!(word.death().unwrap(), "signal 7");
        assert_eq!(word.fault, Some(("/a/b.p".into(), 8192)));
        assert_eq!(LastWords::of(b"short"), LastWords::default());
    }
}
