//! A name server for tests: real datagrams on a port of its own, answers that a test sets.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What the server says about a name.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These addresses, each family to who asks for it, with a time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// An IPv4 address, and silence about IPv6.
    OnlyIpv4(Ipv4Addr),
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL.
    Failure,
    /// Nothing.
    Silence,
}

impl Reply {
    pub(crate) fn addresses(addresses: &[&str], ttl_s: u32) -> Self {
        let addresses = addresses
            .iter()
            .map(|address| address.parse().expect("an address"));
        Self::Addresses(addresses.collect(), ttl_s)
    }
}

#[derive(Debug, Default)]
struct Zone {
    replies: Mutex<HashMap<String, Reply>>,
    questions: AtomicUsize,
}

/// A name server that answers until it is dropped. Names it was not told about do not exist.
#[derive(Debug)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Zone>,
    _task: JoinSet<()>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let zone = Arc::<Zone>::default();
        let mut task = JoinSet::new();
        task.spawn(serve(socket, Arc::clone(&zone)));
        Self {
            address,
            zone,
            _task: task,
        }
    }

    /// Sets what is said about a name, which ends in a dot.
    pub(crate) fn set(&self, name: &str, reply: Reply) {
        self.zone
            .replies
            .lock()
            .expect("no test panics here")
            .insert(name.to_owned(), reply);
    }

    /// How many questions came so far.
    pub(crate) fn questions(&self) -> usize {
        self.zone.questions.load(Ordering::Relaxed)
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Zone>) {
    let mut datagram = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
        let question = Message::from_vec(&datagram[..length]).expect("a question");
        if let Some(answer) = reply(&zone, &question) {
            let _ = socket
                .send_to(&answer.to_vec().expect("an answer"), from)
                .await;
        }
    }
}

fn reply(zone: &Zone, question: &Message) -> Option<Message> {
    zone.questions.fetch_add(1, Ordering::Relaxed);
    let query = question.queries.first().expect("a query").clone();
    let name = query.name().to_string().to_lowercase();
    let reply = zone
        .replies
        .lock()
        .expect("no test panics here")
        .get(&name)
        .cloned();
    let mut answer = Message::response(question.id, question.op_code);
    answer.add_query(query.clone());
    let record = |ttl: u32, data: RData| Record::from_rdata(query.name().clone(), ttl, data);
    match reply.unwrap_or(Reply::NoSuchName) {
        Reply::Addresses(addresses, ttl) => {
            let data = addresses.into_iter().map(RData::from);
            let asked = data.filter(|data| data.record_type() == query.query_type());
            answer.add_answers(asked.map(|data| record(ttl, data)));
        }
        Reply::OnlyIpv4(address) => match query.query_type() {
            RecordType::A => {
                answer.add_answer(record(60, RData::from(IpAddr::V4(address))));
            }
            _ => return None,
        },
        Reply::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Reply::Failure => answer.metadata.response_code = ResponseCode::ServFail,
        Reply::Silence => return None,
    }
    Some(answer)
}
