//! A name server told of records by dynamic updates (RFC 2136). Each is signed with a key that the
//! server shares with us (TSIG, RFC 8945), and so is its answer.
//!
//! Must not: take an answer for a yes that the key did not sign.

use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, Query, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Action;
use crate::settings::{UpdateAlgorithm, UpdateKey};

/// The port of name servers.
const PORT: u16 = 53;

/// How long others may remember the record, seconds.
const TTL_SECS: u32 = 60;

/// How far the clocks of the server and the gateway may be apart, seconds (RFC 8945 section 10).
const FUDGE_SECS: u16 = 300;

pub(super) async fn update(
    server: &str,
    zone: Option<&str>,
    key: &UpdateKey,
    action: Action,
    record: &str,
    value: &str,
) -> Result<(), String> {
    let record = name(record)?;
    let mut server = Server::connect(server).await?;
    let zone = match zone {
        Some(zone) => name(zone)?,
        None => server.zone_of(&record).await?,
    };
    if !zone.zone_of(&record) {
        return Err(format!("`{record}` is not in the zone `{zone}`"));
    }
    let data = RData::TXT(TXT::new(vec![value.to_owned()]));
    let records = RecordSet::from(Record::from_rdata(record, TTL_SECS, data));
    let message = match action {
        // What other orders put there stays: a record is added, and that one taken away.
        Action::Present => update_message::append(records, zone, false, false),
        Action::CleanUp => update_message::delete_by_rdata(records, zone, false),
    };
    server.tell(message, &signer(key)?).await
}

fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|error| format!("`{text}`: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

fn signer(key: &UpdateKey) -> Result<TSigner, String> {
    let algorithm = match key.algorithm {
        UpdateAlgorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
        UpdateAlgorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
        UpdateAlgorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
    };
    let name = name(&key.name)?;
    TSigner::new(key.secret.to_vec(), algorithm, name, FUDGE_SECS)
        .map_err(|error| error.to_string())
}

/// A connection to a name server. TCP has no limit of size that matters, and no forged sender.
struct Server {
    stream: TcpStream,
    name: String,
}

impl Server {
    async fn connect(server: &str) -> Result<Self, String> {
        // An address of either kind, or a name, with a port or without.
        let is_address = server.parse::<std::net::IpAddr>().is_ok();
        let stream = match !is_address && server.contains(':') {
            true => TcpStream::connect(server).await,
            false => TcpStream::connect((server, PORT)).await,
        };
        Ok(Self {
            stream: stream.map_err(|error| format!("`{server}` cannot be reached: {error}"))?,
            name: server.to_owned(),
        })
    }

    /// The zone that a name is in: that of the SOA record which the server gives for it.
    async fn zone_of(&mut self, record: &Name) -> Result<Name, String> {
        let mut question = Message::query();
        question.add_query(Query::query(record.clone(), RecordType::SOA));
        let bytes = question.to_vec().map_err(|error| error.to_string())?;
        let answer = self.ask(&bytes).await?;
        let answer = self.parse(&answer, question.id)?;
        let mut soas = answer.answers.iter().chain(&answer.authorities);
        let soa = soas.find(|it| it.record_type() == RecordType::SOA);
        soa.map(|soa| soa.name.clone()).ok_or_else(|| {
            let code = answer.response_code;
            format!(
                "`{}` does not say which zone `{record}` is in ({code}); set `zone`",
                self.name
            )
        })
    }

    /// Sends an update; an error unless the server did what it says.
    async fn tell(&mut self, mut message: Message, signer: &TSigner) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let verifier = message.finalize(signer, now);
        let verifier = verifier.map_err(|error| error.to_string())?;
        let bytes = message.to_vec().map_err(|error| error.to_string())?;
        let answer = self.ask(&bytes).await?;
        let told = self.parse(&answer, message.id)?;
        if told.response_code != ResponseCode::NoError {
            let why = match told.response_code {
                ResponseCode::NotAuth | ResponseCode::BADSIG | ResponseCode::BADKEY => {
                    ": it does not have that zone, or not that key with that secret and algorithm"
                }
                ResponseCode::Refused => ": the key may not change that name",
                _ => "",
            };
            return Err(format!("`{}` says {}{why}", self.name, told.response_code));
        }
        let signed = verifier.map(|mut verifier| verifier.verify(&answer));
        match signed {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(format!("the answer of `{}`: {error}", self.name)),
            None => Err(format!("the answer of `{}` cannot be verified", self.name)),
        }
    }

    fn parse(&self, answer: &[u8], id: u16) -> Result<Message, String> {
        let message = Message::from_vec(answer);
        let message = message.map_err(|error| format!("`{}`: {error}", self.name))?;
        if message.id != id {
            return Err(format!("`{}` answers something else", self.name));
        }
        Ok(message)
    }

    /// Sends a message and receives one, each behind its length (RFC 1035 section 4.2.2).
    async fn ask(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |error| format!("`{}`: {error}", self.name);
        let length = u16::try_from(message.len()).map_err(|error| error.to_string())?;
        let framed = [&length.to_be_bytes(), message].concat();
        self.stream.write_all(&framed).await.map_err(failed)?;
        let length = self.stream.read_u16().await.map_err(failed)?;
        let mut answer = vec![0; usize::from(length)];
        self.stream.read_exact(&mut answer).await.map_err(failed)?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::MessageType;
    use tokio::net::TcpListener;

    use super::*;

    fn key() -> UpdateKey {
        UpdateKey {
            name: "k".to_owned(),
            algorithm: UpdateAlgorithm::HmacSha256,
            secret: vec![7; 32].into(),
        }
    }

    /// What comes of an update that a server answers with what `answer` makes of it.
    async fn told(answer: fn(Message) -> Vec<u8>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut message).await.unwrap();
            let answer = answer(Message::from_vec(&message).unwrap());
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        });
        let record = "_acme-challenge.a.test.";
        let done = update(
            &address,
            Some("a.test"),
            &key(),
            Action::Present,
            record,
            "v",
        )
        .await;
        server.await.unwrap();
        done
    }

    fn yes(mut message: Message) -> Message {
        message.metadata.message_type = MessageType::Response;
        message.signature = None;
        message
    }

    #[tokio::test]
    async fn a_yes_that_nobody_signed_is_none() {
        let done = told(|message| yes(message).to_vec().unwrap()).await;
        let told = done.unwrap_err();
        assert!(told.contains("missing tsig"), "{told}");
    }

    #[tokio::test]
    async fn an_answer_to_something_else_is_none() {
        let done = told(|message| {
            let mut other = yes(message);
            other.metadata.id ^= 1;
            other.to_vec().unwrap()
        });
        assert!(done.await.unwrap_err().contains("answers something else"));
        let done = told(|_| b"no".to_vec()).await;
        assert!(done.is_err());
    }

    #[tokio::test]
    async fn a_record_elsewhere_is_not_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let record = "_acme-challenge.b.test.";
        let done = update(
            &address,
            Some("a.test"),
            &key(),
            Action::Present,
            record,
            "v",
        )
        .await;
        assert!(done.unwrap_err().contains("is not in the zone `a.test.`"));
    }
}
