//! The dashboard in a real browser, asked through its debugging protocol (Chrome DevTools Protocol).
//!
//! `--dump-dom` would not do: it writes the page as it is at the load event, before the first report has come, and with
//! `--virtual-time-budget` it waits for the end of the event stream, which has none.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::client::{PATIENCE, eventually, get, runtime};
use crate::foretide::{Foretide, config};
use crate::load::{Load, assert_all_served};
use crate::outside_tool;
use crate::producer::{Producer, endpoints};
use crate::turn;

const TOOL: (&str, &str) =
    ("FORETIDE_CHROMIUM", "a Chromium or headless shell (Debian: apt-get install chromium)");

/// Nothing but the page asked for: no first-run pages, no updates, nothing that calls out.
const QUIET: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1600",
    "--remote-debugging-port=0",
];

/// A browser with one page; ended when dropped.
struct Browser {
    child: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: u64,
}

impl Browser {
    /// Opens this page with an empty profile.
    fn open(chromium: &Path, profile: &Path, url: &str) -> Self {
        let mut child = Command::new(chromium)
            .args(QUIET)
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        let socket_url = eventually("the browser opens the page", || {
            if let Some(status) = child.try_wait().expect("asked") {
                panic!("the browser ended with {status}");
            }
            let port = std::fs::read_to_string(profile.join("DevToolsActivePort")).ok()?;
            let port: u16 = port.lines().next()?.parse().ok()?;
            let pages = get(SocketAddr::from(([127, 0, 0, 1], port)), "/json/list").json();
            let page = pages.as_array()?.iter().find(|page| page["url"] == url)?;
            Some(page["webSocketDebuggerUrl"].as_str()?.to_owned())
        });
        let (socket, _) = runtime().block_on(connect_async(socket_url)).expect("the page can be asked");
        Self { child, socket, asked: 0 }
    }

    /// Asks for one thing and gives the result.
    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        let question = json!({ "id": id, "method": method, "params": parameters }).to_string();
        let exchange = async {
            self.socket.send(Message::text(question)).await.expect("sent");
            loop {
                let message = self.socket.next().await.expect("the page is still there").expect("a message");
                let Message::Text(text) = message else { continue };
                let answer: Value = serde_json::from_str(&text).expect("JSON");
                if answer["id"] == id {
                    return answer["result"].clone();
                }
            }
        };
        let timed = async { timeout(PATIENCE, exchange).await };
        runtime().block_on(timed).unwrap_or_else(|_| panic!("{method}: no answer"))
    }

    /// Value of an expression in the page.
    fn evaluate(&mut self, expression: &str) -> Value {
        let result =
            self.ask("Runtime.evaluate", &json!({ "expression": expression, "returnByValue": true }));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    fn text_of(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector('{selector}')?.textContent"));
        text.as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end with it: they notice the closed pipe.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pool that refuses what would be late, and a route on which everything is.
fn with_a_hurried_route(pool: &str) -> String {
    let route = "[[routes]]\nname = \"hurried\"\npath = \"/hash\"\npool = \"work\"\nslo_latency = \"1ms\"\n\n[[routes]]";
    config(&format!("{pool}\n[pools.work.admission]\n")).replacen("[[routes]]", route, 1)
}

#[test]
fn the_dashboard_shows_pool_instances_and_forecast() {
    let Some(chromium) = outside_tool::find(TOOL.0, TOOL.1) else { return };
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let producers = Producer::start_all(&[0.5]);
    let foretide = Foretide::with(
        folder.path(),
        &with_a_hurried_route(&endpoints(&producers)).replace("work", "engine-room"),
    );
    let load = Load::start(foretide.proxy, 10.0, &["/search?rows=300"]);
    eventually("there is a forecast to be drawn", || {
        (!foretide.api("/api/v1/forecasts")["pools"][0]["forecast"].is_null()).then_some(())
    });

    let mut browser =
        Browser::open(&chromium, &folder.path().join("profile"), &format!("http://{}/", foretide.admin));
    let address = producers[0].address.to_string();
    for (selector, wanted) in [
        ("#connection", "live"),
        ("#pools", "engine-room"),
        ("#instances", address.as_str()),
        ("#instances", "warm"),
        ("#routing", "all"),
        ("#version", env!("CARGO_PKG_VERSION")),
    ] {
        eventually(&format!("{selector} shows {wanted}"), || {
            browser.text_of(selector).contains(wanted).then_some(())
        });
    }
    for drawn in ["#chart svg .band", "#chart svg path.mean", "#tiers *", "#classes *", "#figures *"] {
        eventually(&format!("{drawn} is drawn"), || {
            let count = browser.evaluate(&format!("document.querySelectorAll('{drawn}').length"));
            (count.as_u64() > Some(0)).then_some(())
        });
    }
    assert_eq!(
        browser.evaluate("document.getElementById('refusals').hidden"),
        true,
        "nobody was refused yet"
    );
    eventually("who is refused is shown with the reason", || {
        get(foretide.proxy, "/hash?n=20000");
        let refused = browser.text_of("#refusals");
        (refused.contains("hurried") && refused.contains("would have been late")).then_some(())
    });
    let seen = browser.text_of("#routing");
    eventually("new decisions come without a reload of the page", || {
        (browser.text_of("#routing") != seen).then_some(())
    });
    let loaded =
        browser.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).host)");
    let hosts = loaded.as_array().expect("a list").iter();
    assert!(
        hosts.clone().count() > 0 && hosts.clone().all(|host| *host == foretide.admin.to_string()),
        "{loaded}"
    );
    let picture = browser.ask("Page.captureScreenshot", &json!({ "format": "png" }));
    let picture = picture["data"].as_str().expect("a picture in base64");
    assert!(
        picture.starts_with("iVBORw0KGgo") && picture.len() > 20_000,
        "empty: {} characters",
        picture.len()
    );
    drop(browser);
    assert_all_served(&load.stop());
    foretide.stop();
}
