//! The proxy between the program and the store: it records requests and injects faults.
//!
//! It forwards bytes unchanged, so signatures stay valid.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use tokio::net::TcpSocket;

/// The operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Head,
    Get,
    /// A listing of objects.
    List,
    Put,
    Delete,
    /// The start of a multipart upload.
    Create,
    Part,
    Complete,
    Abort,
    Other,
}

/// A recorded request.
#[derive(Clone, Debug)]
pub struct Request {
    pub operation: Operation,
    pub bucket: String,
    pub key: String,
    /// Header names are in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// The status that the program received; `None` if it received no response.
    pub status: Option<u16>,
    /// The length of the response that it received, in bytes.
    pub told: usize,
}

impl Request {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }
}

/// An injected fault.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The proxy answers instead of the store.
    Answered(Answer),
    /// The connection is reset in the middle of the body.
    Cut,
    /// The store has the object, and the connection is reset before the response.
    CutAfterwards,
    /// The request is read, and never answered.
    Stalled,
    /// The request is not read.
    Unread,
    /// One byte is changed on the way to the store.
    Garbled,
    /// The store has the object, but the response has another checksum.
    Misheard,
    /// The response has another checksum, and the store has no object.
    Lost,
    /// The connection is reset in the middle of the response.
    Halved,
    /// The response is delayed.
    Late(Duration),
    /// The body is read slowly: so many bytes a second.
    Slow(u64),
}

/// An error in S3's format.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: u16,
    pub code: &'static str,
    pub message: &'static str,
    pub headers: &'static [(&'static str, &'static str)],
}

impl Answer {
    const fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Self {
            status,
            code,
            message,
            headers: &[],
        }
    }

    pub const INTERNAL_ERROR: Self = Self::new(
        500,
        "InternalError",
        "We encountered an internal error. Please try again.",
    );
    pub const SLOW_DOWN: Self = Self::new(503, "SlowDown", "Please reduce your request rate.");
    pub const ACCESS_DENIED: Self = Self::new(403, "AccessDenied", "Access Denied");
    pub const INVALID_ACCESS_KEY: Self = Self::new(
        403,
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist in our records.",
    );
    pub const BAD_SIGNATURE: Self = Self::new(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    );
    pub const EXPIRED: Self = Self::new(400, "ExpiredToken", "The provided token has expired.");
    pub const TIME_SKEWED: Self = Self::new(
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
    );
    pub const NO_SUCH_KEY: Self = Self::new(404, "NoSuchKey", "The specified key does not exist.");
    pub const NO_SUCH_BUCKET: Self =
        Self::new(404, "NoSuchBucket", "The specified bucket does not exist");
    pub const ELSEWHERE: Self = Self {
        headers: &[("x-amz-bucket-region", "us-west-2")],
        ..Self::new(
            301,
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the specified endpoint.",
        )
    };
    pub const WRONG_REGION: Self = Self {
        headers: &[("x-amz-bucket-region", "us-west-2")],
        ..Self::new(
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'eu-central-1' is wrong; expecting 'us-west-2'",
        )
    };
    pub const INVALID: Self = Self::new(400, "InvalidRequest", "This object cannot be.");
    /// A possible S3 response with status 200 when parts cannot be combined.
    pub const LATE_ERROR: Self = Self {
        status: 200,
        ..Self::INTERNAL_ERROR
    };
}

/// The requests that a fault affects.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    operations: Vec<Operation>,
    words: String,
    skip: usize,
    times: usize,
}

impl Rule {
    /// Affects all requests, unless restricted.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            operations: Vec::new(),
            words: String::new(),
            skip: 0,
            times: usize::MAX,
        }
    }

    pub fn answer(answer: Answer) -> Self {
        Self::new(Fault::Answered(answer))
    }

    pub fn on(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Affects requests whose key contains these words.
    pub fn of(mut self, words: &str) -> Self {
        words.clone_into(&mut self.words);
        self
    }

    /// Does not affect the first `requests` requests.
    pub fn after(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    fn concerns(&mut self, operation: Operation, key: &str) -> bool {
        let is_meant = (self.operations.is_empty() || self.operations.contains(&operation))
            && key.contains(&self.words);
        if !is_meant || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

#[derive(Default)]
struct Books {
    rules: Vec<Rule>,
    requests: Vec<Request>,
    connections: usize,
    at_once: usize,
    most_at_once: usize,
}

/// A running proxy. It runs until the process ends, after its clients.
pub struct Proxy {
    pub address: SocketAddr,
    store: SocketAddr,
    books: Arc<Mutex<Books>>,
    /// The reserved address, on which nobody listens yet.
    closed: Option<TcpSocket>,
}

impl Proxy {
    pub fn new(store: SocketAddr) -> Self {
        let mut proxy = Self::closed(store);
        proxy.open();
        proxy
    }

    /// Creates a proxy that refuses connections until it opens.
    pub fn closed(store: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            address: socket.local_addr().unwrap(),
            store,
            books: Arc::default(),
            closed: Some(socket),
        }
    }

    pub fn open(&mut self) {
        let listener = listen(self.closed.take().expect("it was closed"));
        let (store, books) = (self.store, Arc::clone(&self.books));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(connection) = connection else { continue };
                let books = Arc::clone(&books);
                lock(&books).connections += 1;
                thread::spawn(move || Line { store, books }.serve(&connection));
            }
        });
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn rule(&self, rule: Rule) {
        lock(&self.books).rules.push(rule);
    }

    /// Removes all rules.
    pub fn heal(&self) {
        lock(&self.books).rules.clear();
    }

    /// Returns all requests in the order of their responses.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.books).requests.clone()
    }

    pub fn requests_for(&self, operation: Operation) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|request| request.operation == operation)
            .collect()
    }

    /// Returns how often each key was put with a response of success.
    pub fn puts(&self) -> BTreeMap<String, usize> {
        let mut puts = BTreeMap::new();
        for put in self
            .requests_for(Operation::Put)
            .iter()
            .filter(|put| put.status == Some(200))
        {
            *puts.entry(put.key.clone()).or_default() += 1;
        }
        puts
    }

    pub fn forget(&self) {
        lock(&self.books).requests.clear();
    }

    pub fn connections(&self) -> usize {
        lock(&self.books).connections
    }

    /// Returns the largest number of simultaneous requests.
    pub fn most_at_once(&self) -> usize {
        lock(&self.books).most_at_once
    }
}

/// Listens on a reserved address. The standard library cannot do this; tokio needs a runtime.
fn listen(socket: TcpSocket) -> TcpListener {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let listener = socket.listen(1024).unwrap().into_std().unwrap();
    listener.set_nonblocking(false).unwrap();
    listener
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The handler of a connection.
struct Line {
    store: SocketAddr,
    books: Arc<Mutex<Books>>,
}

/// The head of a request.
struct Head {
    bytes: Vec<u8>,
    operation: Operation,
    bucket: String,
    key: String,
    headers: BTreeMap<String, String>,
}

/// True if the connection stays open.
type Goes = io::Result<bool>;

impl Line {
    fn serve(&self, connection: &TcpStream) {
        connection.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        while let Ok(Some(head)) = read_head(&mut reader) {
            {
                let mut books = lock(&self.books);
                books.at_once += 1;
                books.most_at_once = books.most_at_once.max(books.at_once);
            }
            let goes = self.request(&head, &mut reader, connection);
            lock(&self.books).at_once -= 1;
            if !goes.unwrap_or(false) {
                break;
            }
        }
    }

    fn request(
        &self,
        head: &Head,
        reader: &mut BufReader<TcpStream>,
        mut connection: &TcpStream,
    ) -> Goes {
        let fault = {
            let mut books = lock(&self.books);
            books.rules.iter_mut().find_map(|rule| {
                rule.concerns(head.operation, &head.key)
                    .then(|| rule.fault.clone())
            })
        };
        let length: usize = head
            .headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        assert!(
            !head.headers.contains_key("transfer-encoding"),
            "bodies have a length: {:?}",
            head.headers
        );
        if head
            .headers
            .get("expect")
            .is_some_and(|expected| expected == "100-continue")
        {
            connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; length];
        match &fault {
            Some(Fault::Unread) => {
                self.write_down(head, Vec::new(), None);
                // The connection is not closed either.
                loop {
                    thread::park();
                }
            }
            Some(Fault::Cut) => {
                reader.read_exact(&mut body[..length / 2])?;
                self.write_down(head, Vec::new(), None);
                reset(connection);
                return Ok(false);
            }
            Some(Fault::Slow(bytes_per_second)) => {
                const STEPS_PER_SECOND: u64 = 20;
                for step in body.chunks_mut((bytes_per_second / STEPS_PER_SECOND) as usize) {
                    reader.read_exact(step)?;
                    thread::sleep(Duration::from_millis(1000 / STEPS_PER_SECOND));
                }
            }
            _ => reader.read_exact(&mut body)?,
        }
        match fault {
            Some(Fault::Answered(answer)) => {
                let text = answer.text(head);
                self.write_down(head, body, Some(answer.status));
                connection.write_all(&text)?;
            }
            Some(Fault::Stalled) => {
                self.write_down(head, body, None);
                let _ = reader.read(&mut [0]);
                return Ok(false);
            }
            Some(Fault::CutAfterwards) => {
                self.ask(head, &body)?;
                self.write_down(head, body, None);
                reset(connection);
                return Ok(false);
            }
            Some(Fault::Lost) => {
                self.write_down(head, body, Some(200));
                let etag = "\"d41d8cd98f00b204e9800998ecf8427e\"";
                let told = format!(
                    "etag: {etag}\r\nx-amz-checksum-crc32: {WRONG_CHECKSUM}\r\ncontent-length: 0\r\n"
                );
                connection.write_all(format!("HTTP/1.1 200 OK\r\n{told}\r\n").as_bytes())?;
            }
            fault => {
                if let (Some(Fault::Garbled), Some(last)) = (&fault, body.last_mut()) {
                    *last ^= 1;
                }
                let mut answer = self.ask(head, &body)?;
                match &fault {
                    Some(Fault::Late(time)) => thread::sleep(*time),
                    Some(Fault::Misheard) => answer.mishear(),
                    _ => {}
                }
                let told = answer.bytes.len();
                self.write_down_told(head, body, Some(answer.status), told);
                if let Some(Fault::Halved) = fault {
                    connection.write_all(&answer.bytes[..told - told / 3])?;
                    reset(connection);
                    return Ok(false);
                }
                connection.write_all(&answer.bytes)?;
            }
        }
        Ok(true)
    }

    fn write_down(&self, head: &Head, body: Vec<u8>, status: Option<u16>) {
        self.write_down_told(head, body, status, 0);
    }

    fn write_down_told(&self, head: &Head, body: Vec<u8>, status: Option<u16>, told: usize) {
        let Head {
            operation,
            bucket,
            key,
            headers,
            ..
        } = head;
        let (bucket, key, headers) = (bucket.clone(), key.clone(), headers.clone());
        lock(&self.books).requests.push(Request {
            operation: *operation,
            bucket,
            key,
            headers,
            body,
            status,
            told,
        });
    }

    /// Forwards a request to the store, on a connection of its own.
    fn ask(&self, head: &Head, body: &[u8]) -> io::Result<Told> {
        let mut store = TcpStream::connect(self.store)?;
        store.set_nodelay(true)?;
        let bytes = head
            .bytes
            .strip_suffix(b"\r\n")
            .expect("an empty line ends it");
        // The proxy has already sent "100 Continue".
        store.write_all(&without_line(bytes, "expect:"))?;
        store.write_all(b"connection: close\r\n\r\n")?;
        // The store may refuse before it has read the whole body.
        let _ = store.write_all(body);
        let mut bytes = Vec::new();
        store.read_to_end(&mut bytes)?;
        Told::new(&bytes)
    }
}

/// A response of the store.
struct Told {
    status: u16,
    bytes: Vec<u8>,
}

/// A checksum that is wrong for any tested content.
const WRONG_CHECKSUM: &str = "////8A==";

impl Told {
    fn new(bytes: &[u8]) -> io::Result<Self> {
        let status = bytes
            .get(9..12)
            .and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("the store broke off"))?;
        Ok(Self {
            status,
            bytes: without_line(bytes, "connection:"),
        })
    }

    fn mishear(&mut self) {
        let bytes = without_line(&self.bytes, "x-amz-checksum-crc32:");
        let line_end = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let header = format!("x-amz-checksum-crc32: {WRONG_CHECKSUM}\r\n");
        self.bytes = [&bytes[..line_end], header.as_bytes(), &bytes[line_end..]].concat();
    }
}

impl Answer {
    /// Returns the response. A response to HEAD has no body, so it is only a status.
    fn text(&self, head: &Head) -> Vec<u8> {
        let Self {
            status,
            code,
            message,
            ..
        } = self;
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             <RequestId>4442587FB7D0A2F9</RequestId></Error>"
        );
        let mut headers: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        headers.push_str("content-type: application/xml\r\n");
        if head.operation == Operation::Head {
            return format!("HTTP/1.1 {status} {code}\r\n{headers}\r\n").into_bytes();
        }
        format!(
            "HTTP/1.1 {status} {code}\r\n{headers}content-length: {}\r\n\r\n{xml}",
            xml.len()
        )
        .into_bytes()
    }
}

/// Reads the head up to the empty line; `None` at the end of the connection.
fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
    }
    let text = String::from_utf8(bytes.clone()).expect("heads are text");
    let mut lines = text.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap(), first.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    Ok(Some(Head {
        operation: operation(method, query),
        bucket,
        key,
        headers,
        bytes,
    }))
}

fn operation(method: &str, query: &str) -> Operation {
    match method {
        "HEAD" => Operation::Head,
        "GET" if query.contains("list-type=") => Operation::List,
        "GET" => Operation::Get,
        "PUT" if query.contains("partNumber=") => Operation::Part,
        "PUT" => Operation::Put,
        "POST" if query.contains("uploadId=") => Operation::Complete,
        "POST" if query.contains("uploads") => Operation::Create,
        "DELETE" if query.contains("uploadId=") => Operation::Abort,
        "DELETE" => Operation::Delete,
        _ => Operation::Other,
    }
}

/// Returns head lines without one of them.
fn without_line(bytes: &[u8], name: &str) -> Vec<u8> {
    let head_len = bytes
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .map_or(bytes.len(), |end| end + 2);
    let (head, rest) = bytes.split_at(head_len);
    let is_it = |line: &&[u8]| {
        line.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    };
    let mut kept: Vec<u8> = head
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !is_it(line))
        .flatten()
        .copied()
        .collect();
    kept.extend(rest);
    kept
}

/// Closes a connection with RST, which the other side notices at once.
fn reset(connection: &TcpStream) {
    let socket = TcpSocket::from_std_stream(connection.try_clone().unwrap());
    socket.set_zero_linger().unwrap();
}
