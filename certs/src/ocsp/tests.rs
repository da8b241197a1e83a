use der::asn1::{BitString, GeneralizedTime};
use proptest::prelude::*;
use rcgen::{KeyPair, SigningKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_ocsp::{ResponderId, ResponseBytes, ResponseData, RevokedInfo, Version};

use super::*;
use crate::load;
use crate::testing::{Authority, DAY, Issued, Wish};

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

struct Fixture {
    authority: Authority,
    question: Question,
}

impl Fixture {
    fn new() -> Self {
        let authority = Authority::new("it answers");
        let question = question(&authority, 1).unwrap();
        Self {
            authority,
            question,
        }
    }

    fn examine(&self, response: &[u8]) -> Result<Staple, Unusable> {
        self.question.answered(response, UnixTime::now())
    }
}

fn certificate(authority: &Authority, wish: &Wish<'_>) -> Certificate {
    let issued = authority.issue(wish);
    let bundle = issued.chain + &authority.certificate.pem() + &issued.key;
    load::parse(bundle.as_bytes(), "a.pem".as_ref()).unwrap()
}

fn question(authority: &Authority, serial: u64) -> Option<Question> {
    let wish = Wish {
        names: &["a.test"],
        serial,
        tells_responder: true,
        ..Wish::default()
    };
    Question::about(&certificate(authority, &wish))
}

fn time(secs: u64) -> OcspGeneralizedTime {
    let time = GeneralizedTime::from_unix_duration(Duration::from_secs(secs)).unwrap();
    OcspGeneralizedTime(time)
}

/// What a responder says; from an hour ago to a day ahead, unless a test wants it otherwise.
fn word(question: &Question) -> SingleResponse {
    let now = UnixTime::now().as_secs();
    SingleResponse {
        cert_id: question.id.clone(),
        cert_status: CertStatus::good(),
        this_update: time(now - 3600),
        next_update: Some(time(now + DAY)),
        single_extensions: None,
    }
}

/// An answer signed by whoever `sign` is, with a certificate in it or without.
fn answer(
    word: SingleResponse,
    certificate: Option<X509>,
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let data = ResponseData {
        version: Version::V1,
        responder_id: ResponderId::ByKey(OctetString::new(&[0; 20][..]).unwrap()),
        produced_at: word.this_update,
        responses: vec![word],
        response_extensions: None,
    };
    let signature = sign(&data.to_der().unwrap());
    let basic = BasicOcspResponse {
        tbs_response_data: data,
        signature_algorithm: AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA256,
            parameters: None,
        },
        signature: BitString::from_bytes(&signature).unwrap(),
        certs: certificate.map(|one| vec![one]),
    };
    let response = OcspResponse {
        response_status: OcspResponseStatus::Successful,
        response_bytes: Some(ResponseBytes {
            response_type: ID_PKIX_OCSP_BASIC,
            response: OctetString::new(basic.to_der().unwrap()).unwrap(),
        }),
    };
    response.to_der().unwrap()
}

#[test]
fn asks_whom_the_certificate_names() {
    let fixture = Fixture::new();
    assert_eq!(fixture.question.url, "http://a");
    let asked = OcspRequest::from_der(&fixture.question.request).unwrap();
    assert_eq!(
        asked.tbs_request.request_list[0].req_cert,
        fixture.question.id
    );
    // Nobody to ask, and nothing known of the issuer.
    let authority = &fixture.authority;
    let silent = Wish {
        names: &["a.test"],
        tells_issuer: true,
        ..Wish::default()
    };
    assert!(Question::about(&certificate(authority, &silent)).is_none());
    let Issued { chain, key } = authority.issue(&Wish {
        tells_responder: true,
        ..silent
    });
    let alone = load::parse((chain + &key).as_bytes(), "a.pem".as_ref()).unwrap();
    assert!(Question::about(&alone).is_none());
}

#[test]
fn a_good_word_is_stapled_until_it_ends() {
    let fixture = Fixture::new();
    let word = word(&fixture.question);
    let until = moment(word.next_update.unwrap());
    let response = answer(word, None, |it| fixture.authority.sign(it));
    let staple = fixture.examine(&response).unwrap();
    assert_eq!(staple.response, response);
    assert_eq!(staple.next_update, until);
    let half = (staple.this_update.as_secs() + until.as_secs()) / 2;
    assert!(staple.ask_again_at().as_secs().abs_diff(half) < 2);
    assert!(staple.counts(UnixTime::now()) && !staple.counts(until));
}

#[test]
fn what_says_nothing_good_is_not_stapled() {
    let fixture = Fixture::new();
    let now = UnixTime::now().as_secs();
    let check = |edit: &dyn Fn(&mut SingleResponse), expected: &str| {
        let mut word = word(&fixture.question);
        edit(&mut word);
        let response = answer(word, None, |it| fixture.authority.sign(it));
        let refused = fixture.examine(&response).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    let revoked = RevokedInfo {
        revocation_time: time(0),
        revocation_reason: None,
    };
    check(
        &|it| it.cert_status = CertStatus::revoked(revoked),
        "revoked at 1970-01-01",
    );
    check(
        &|it| it.cert_status = CertStatus::unknown(),
        "does not know",
    );
    check(&|it| it.next_update = Some(time(now - 1)), "not now");
    check(&|it| it.this_update = time(now + 3600), "not now");
    check(
        &|it| (it.this_update, it.next_update) = (time(now - 2 * DAY), None),
        "not now",
    );
    let other = question(&fixture.authority, 2).unwrap();
    check(&|it| it.cert_id = other.id.clone(), "another certificate");
    let declined = OcspResponse {
        response_status: OcspResponseStatus::TryLater,
        response_bytes: None,
    };
    let refused = fixture.examine(&declined.to_der().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("tryLater"), "{refused}");
}

/// An authority may let others answer, with certificates that it issues for that alone.
#[test]
fn only_the_issuer_and_those_it_authorised_are_believed() {
    let fixture = Fixture::new();
    let check = |issuer: &Authority, wish: Wish<'_>, is_believed: bool| {
        let Issued { chain, key } = issuer.issue(&wish);
        let responder = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        let responder = X509::from_der(&responder).unwrap();
        let key = KeyPair::from_pem(&key).unwrap();
        let response = answer(word(&fixture.question), Some(responder), |it| {
            key.sign(it).unwrap()
        });
        match fixture.examine(&response) {
            Ok(_) => assert!(is_believed),
            Err(error) => assert!(
                !is_believed && matches!(error, Unusable::Signature),
                "{error}"
            ),
        }
    };
    let now = UnixTime::now().as_secs();
    let responder = || Wish {
        names: &["r.test"],
        for_responders: true,
        ..Wish::default()
    };
    check(&fixture.authority, responder(), true);
    let server = Wish {
        for_responders: false,
        ..responder()
    };
    check(&fixture.authority, server, false);
    check(
        &fixture.authority,
        Wish {
            not_after: now - 1,
            ..responder()
        },
        false,
    );
    // Of the same name, but not the same.
    check(&Authority::new("it answers"), responder(), false);
    let impostor = Authority::new("it answers");
    let response = answer(word(&fixture.question), None, |it| impostor.sign(it));
    assert!(matches!(
        fixture.examine(&response),
        Err(Unusable::Signature)
    ));
}

proptest! {
    #[test]
    fn no_byte_of_an_answer_can_be_changed_into_another_good_word(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        thread_local! {
            static GOOD: (Fixture, Vec<u8>) = {
                let fixture = Fixture::new();
                let response = answer(word(&fixture.question), None, |it| fixture.authority.sign(it));
                (fixture, response)
            };
        }
        GOOD.with(|(fixture, response)| {
            let mut changed = response.clone();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            let before = fixture.examine(response).unwrap();
            // Bits that nothing rests on may differ; what is said may not.
            if let Ok(staple) = fixture.examine(&changed) {
                prop_assert_eq!(staple.this_update, before.this_update);
                prop_assert_eq!(staple.next_update, before.next_update);
            }
            Ok(())
        })?;
    }
}
