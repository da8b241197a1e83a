//! The HTTP/1 codec: heads in, chunked bodies through, heads out.

use std::hint::black_box;

use cardea_http1::{
    ChunkedDecoder, Framing, HeadScan, Limits, Method, RequestHead, ResponseHead, Step, write,
};

use super::{Case, Work};

pub(super) const CASES: [Case; 7] = [
    Case {
        name: "http1_request_short",
        prepare: || request(SHORT, 1),
    },
    Case {
        name: "http1_request_browser",
        prepare: || request(BROWSER, 1),
    },
    Case {
        name: "http1_request_in_three_reads",
        prepare: || request(BROWSER, 3),
    },
    Case {
        name: "http1_response",
        prepare: response,
    },
    Case {
        name: "http1_chunked_body",
        prepare: chunked_body,
    },
    Case {
        name: "http1_write_request",
        prepare: write_request,
    },
    Case {
        name: "http1_write_response",
        prepare: write_response,
    },
];

/// What a command-line client or another service sends.
const SHORT: &str = "GET /api/orders/4711?expand=items HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: curl/8.11.0\r\n\
    Accept: */*\r\n\r\n";

/// What a browser sends: many fields, long values, a cookie.
pub(super) const BROWSER: &str = "GET /products/hinges/brass?page=3&sort=price HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"148\", \"Not)A;Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/148.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
    image/apng,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: https://shop.example.com/products/hinges\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=necessary\r\n\r\n";

/// What an application server answers.
pub(super) const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    Server: origin\r\n\
    Date: Mon, 23 Nov 2026 09:00:00 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 150\r\n\
    Cache-Control: no-cache\r\n\
    ETag: \"5f3759df-96\"\r\n\
    Vary: Accept-Encoding\r\n\
    Connection: keep-alive\r\n\r\n";

/// Parses a request head whose bytes arrive in `reads` equal parts.
fn request(text: &'static str, reads: usize) -> Work {
    let limits = Limits::default();
    let mut head = RequestHead::default();
    let mut scan = HeadScan::request();
    Box::new(move || {
        let bytes = black_box(text.as_bytes());
        for read in 1..reads {
            let part = &bytes[..bytes.len() * read / reads];
            let found = head
                .receive(&mut scan, part, &limits)
                .expect("part of a valid head");
            assert!(found.is_none());
        }
        let found = head
            .receive(&mut scan, bytes, &limits)
            .expect("a valid head");
        assert!(found.is_some());
        black_box(&head);
        scan.restart();
    })
}

fn response() -> Work {
    let limits = Limits::default();
    let mut head = ResponseHead::default();
    let mut scan = HeadScan::response();
    Box::new(move || {
        let bytes = black_box(RESPONSE.as_bytes());
        let found = head
            .receive(&mut scan, bytes, &limits)
            .expect("a valid head");
        assert!(found.is_some());
        assert_eq!(head.framing(Method::Get), Framing::Length(150));
        scan.restart();
    })
}

/// Walks a body of 16 chunks of 1 KiB that arrived in one read.
fn chunked_body() -> Work {
    let limits = Limits::default();
    let mut body = Vec::new();
    for _ in 0..16 {
        write::chunk_start(&mut body, 1024);
        body.resize(body.len() + 1024, b'x');
        write::chunk_end(&mut body);
    }
    write::last_chunk(&mut body);
    write::head_end(&mut body);
    Box::new(move || {
        let mut decoder = ChunkedDecoder::new(&limits);
        let mut rest = black_box(body.as_slice());
        loop {
            match decoder.next(rest).expect("a valid body") {
                Step::Data { start, end } => {
                    black_box(&rest[start..end]);
                    rest = &rest[end..];
                }
                Step::End { consumed } => {
                    assert_eq!(consumed, rest.len());
                    break;
                }
                Step::Need { .. } => unreachable!("the body is whole"),
            }
        }
    })
}

/// Serialises a browser's request as it is forwarded: without hop-by-hop fields, with ours.
fn write_request() -> Work {
    let mut head = RequestHead::default();
    head.parse(BROWSER.as_bytes(), &Limits::default())
        .expect("a valid head");
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        let bytes = black_box(BROWSER.as_bytes());
        out.clear();
        write::request_line(
            &mut out,
            head.method_span.of(bytes),
            head.target.path_and_query().of(bytes),
        );
        let kept = head
            .fields
            .iter()
            .filter(|field| !head.nominated.removes(**field, bytes));
        write::fields(&mut out, bytes, kept.copied());
        write::field(&mut out, b"X-Forwarded-For", b"203.0.113.7");
        write::field(&mut out, b"X-Forwarded-Proto", b"https");
        write::field(&mut out, b"X-Request-Id", b"01939f6c2d8e7f60");
        write::head_end(&mut out);
        black_box(&out);
    })
}

fn write_response() -> Work {
    let mut head = ResponseHead::default();
    head.parse(RESPONSE.as_bytes(), &Limits::default())
        .expect("a valid head");
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        let bytes = black_box(RESPONSE.as_bytes());
        out.clear();
        write::status_line(&mut out, head.status);
        let kept = head
            .fields
            .iter()
            .filter(|field| !head.nominated.removes(**field, bytes));
        write::fields(&mut out, bytes, kept.copied());
        write::head_end(&mut out);
        black_box(&out);
    })
}
