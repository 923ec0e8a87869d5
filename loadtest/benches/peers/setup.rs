//! The contestants and their configurations: one worker thread each, connections to the producers kept.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::WORKERS;
use crate::contestant::Contestant;

/// Contestants at most.
pub(crate) const MOST: usize = 6;

/// Starts all that are installed; Foretide is the first.
pub(crate) fn start_all(instances: &[SocketAddr], fronts: &[SocketAddr]) -> Result<Vec<Contestant>> {
    // This program is target/release/deps/peers-…
    let built = std::env::current_exe()?.parent().and_then(Path::parent).map(|place| place.join("foretide"));
    let found = [
        ("foretide with queue", "FORETIDE_BIN", built.clone()),
        ("foretide", "FORETIDE_BIN", built),
        ("haproxy leastconn", "HAPROXY_BIN", on_path("haproxy")),
        ("haproxy with queues", "HAPROXY_BIN", on_path("haproxy")),
        ("nginx least_conn", "NGINX_BIN", on_path("nginx")),
        ("envoy LEAST_REQUEST", "ENVOY_BIN", on_path("envoy")),
    ];
    let mut contestants = Vec::new();
    for ((name, variable, usual), &front) in found.into_iter().zip(fronts) {
        let program = std::env::var_os(variable).map(PathBuf::from).or(usual).filter(|path| path.is_file());
        match program {
            Some(program) => contestants.push(start(name, &program, front, instances)?),
            None => println!("{name}: not there; install it or name it in {variable}"),
        }
    }
    Ok(contestants)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file())
}

fn start(
    name: &'static str,
    program: &Path,
    front: SocketAddr,
    instances: &[SocketAddr],
) -> Result<Contestant> {
    let files = TempDir::new()?;
    let config = files.path().join(if name.starts_with("envoy") { "config.yaml" } else { "config" });
    let mut command = Command::new(program);
    command.current_dir(files.path());
    let text = match name {
        "foretide" | "foretide with queue" => {
            command.arg("run").arg("--config").arg(&config);
            foretide(front, instances, name.ends_with("queue"))
        }
        "haproxy leastconn" | "haproxy with queues" => {
            command.arg("-q").arg("-f").arg(&config);
            haproxy(front, instances, name.ends_with("queues"))
        }
        "nginx least_conn" => {
            command.arg("-p").arg(files.path()).arg("-e").arg("stderr").arg("-c").arg(&config);
            nginx(front, instances)
        }
        _ => {
            command
                .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"])
                .arg(&config);
            envoy(front, instances)
        }
    };
    std::fs::write(&config, text)?;
    Contestant::start(name, front, &mut command, Some(files))
}

fn lines(instances: &[SocketAddr], line: impl Fn(usize, &SocketAddr) -> String) -> String {
    instances.iter().enumerate().map(|(index, address)| line(index, address)).collect()
}

fn foretide(front: SocketAddr, instances: &[SocketAddr], queue: bool) -> String {
    let endpoints: Vec<String> = instances.iter().map(|address| format!("\"{address}\"")).collect();
    let queue = if queue { "[pools.work.queue]\n" } else { "" };
    format!(
        "version = 1\n\
         [server]\nlisten = [\"{front}\"]\nthreads = 1\nstate_dir = \"state\"\n\
         [admin]\nlisten = \"off\"\n\
         [learning]\nretrain_every = \"5s\"\n\
         [[routes]]\nname = \"api\"\npath = \"/r/{{kind}}\"\npool = \"work\"\n\
         parameters = [\"path:kind:category\", \"query:n:number\"]\n\
         [pools.work]\npolicy = \"predictive\"\nconcurrency = {WORKERS}\nendpoints = [{}]\n{queue}",
        endpoints.join(", ")
    )
}

fn haproxy(front: SocketAddr, instances: &[SocketAddr], queues: bool) -> String {
    let limit = if queues { format!(" maxconn {WORKERS}") } else { String::new() };
    let servers = lines(instances, |index, address| format!("    server s{index} {address}{limit}\n"));
    format!(
        "global\n    maxconn 4000\n    nbthread 1\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n    timeout queue 60s\n\
         frontend front\n    bind {front}\n    default_backend work\n\
         backend work\n    balance leastconn\n{servers}"
    )
}

fn nginx(front: SocketAddr, instances: &[SocketAddr]) -> String {
    let servers = lines(instances, |_, address| format!("    server {address};\n"));
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path body;\n  proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n\
         \x20 uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  keepalive_requests 1000000;\n\
         \x20 upstream work {{\n    least_conn;\n{servers}    keepalive 512;\n  }}\n\
         \x20 server {{\n    listen {front};\n    location / {{\n      proxy_pass http://work;\n\
         \x20     proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
    )
}

fn envoy(front: SocketAddr, instances: &[SocketAddr]) -> String {
    let address = |address: &SocketAddr| {
        format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
    };
    let endpoints =
        lines(instances, |_, instance| format!("        - endpoint: {{ address: {} }}\n", address(instance)));
    let mut text = format!(
        "static_resources:\n  listeners:\n  - address: {}\n    filter_chains:\n    - filters:\n      - name: hcm\n        typed_config:\n",
        address(&front)
    );
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n\
         \x20         stat_prefix: front\n          route_config:\n            virtual_hosts:\n            - name: all\n              domains: [\"*\"]\n\
         \x20             routes:\n              - match: {{ prefix: \"/\" }}\n                route: {{ cluster: work, timeout: 60s }}\n\
         \x20         http_filters:\n          - name: envoy.filters.http.router\n            typed_config:\n\
         \x20             \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n\
         \x20 clusters:\n  - name: work\n    type: STATIC\n    lb_policy: LEAST_REQUEST\n    connect_timeout: 5s\n\
         \x20   circuit_breakers: {{ thresholds: [{{ max_connections: 8192, max_pending_requests: 8192, max_requests: 8192 }}] }}\n\
         \x20   load_assignment:\n      cluster_name: work\n      endpoints:\n      - lb_endpoints:\n{endpoints}"
    );
    text
}
