//! A name server on a socket of its own: answers that a test sets, questions on record.
//!
//! Must not: know more of DNS than questions of one name and A and AAAA records (RFC 1035).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// The types of records that are answered.
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// RCODE 3: there is no such name.
const NO_SUCH_NAME: u8 = 3;

/// The bytes of a header, before the question.
const HEADER_BYTES: usize = 12;

/// A running name server. Names it was not told about do not exist.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Zone>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Zone {
    names: Mutex<HashMap<String, (Vec<IpAddr>, u32)>>,
    questions: AtomicUsize,
    is_stopped: AtomicBool,
}

impl Default for NameServer {
    fn default() -> Self {
        Self::start()
    }
}

impl NameServer {
    /// Starts a name server.
    ///
    /// # Panics
    /// If there is no port for it.
    #[track_caller]
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("a bound socket");
        let zone = Arc::<Zone>::default();
        let served = Arc::clone(&zone);
        let serving = Some(thread::spawn(move || serve(&socket, &served)));
        Self {
            address,
            zone,
            serving,
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the addresses of a name and how many seconds they may be kept.
    ///
    /// # Panics
    /// If a text is no address.
    #[track_caller]
    pub fn set(&self, name: &str, addresses: &[&str], ttl_s: u32) {
        let parse = |text: &&str| text.parse().expect("an address");
        let addresses = addresses.iter().map(parse).collect();
        let mut names = self
            .zone
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned(), (addresses, ttl_s));
    }

    /// Questions so far.
    pub fn questions(&self) -> usize {
        self.zone.questions.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.zone.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the server with an empty datagram; if that cannot be sent, its socket is gone.
        let wake = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let _ = wake.and_then(|socket| socket.send_to(&[], self.address));
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn serve(socket: &UdpSocket, zone: &Zone) {
    let mut datagram = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        if zone.is_stopped.load(Ordering::SeqCst) {
            return;
        }
        if let Some(answer) = answer(&datagram[..length], zone) {
            zone.questions.fetch_add(1, Ordering::SeqCst);
            // An asker that is gone asks again or does not care.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The answer to a query; none if it is not one.
fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let (name, end) = name_at(query, HEADER_BYTES)?;
    let question = query.get(HEADER_BYTES..end + 4)?;
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let names = zone.names.lock().unwrap_or_else(PoisonError::into_inner);
    let known = names.get(&name);
    let (addresses, ttl_s) = known.cloned().unwrap_or_default();
    let records: Vec<Vec<u8>> = addresses
        .into_iter()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(address), TYPE_A) => Some(address.octets().to_vec()),
            (IpAddr::V6(address), TYPE_AAAA) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut bytes = query.get(..2)?.to_vec();
    // A response, recursion desired and available.
    bytes.extend([0x81, 0x80 | if known.is_some() { 0 } else { NO_SUCH_NAME }]);
    for count in [1, records.len() as u16, 0, 0] {
        bytes.extend(count.to_be_bytes());
    }
    bytes.extend(question);
    for data in records {
        // The name is the one at the start of the question.
        bytes.extend([0xc0, HEADER_BYTES as u8]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        bytes.extend(ttl_s.to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }
    Some(bytes)
}

/// A name in lower case, and where it ends.
fn name_at(query: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = start;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += length;
    }
}
