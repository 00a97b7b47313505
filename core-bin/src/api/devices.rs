//! Devices.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::actor::Caller;
use super::body::{Named, Params};
use super::operation::{Api, Operation};
use super::page::{ListQuery, Order, Page, names};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{DevicesRead, DevicesWrite};
use crate::flows::{device as flow, user};
use crate::view::DeviceView;

const ORDERS: &[Order<DeviceView>] = &[
    ("id", |a, b| a.id.cmp(&b.id)),
    ("name", |a, b| a.name.cmp(&b.name)),
    ("user", |a, b| a.user.cmp(&b.user)),
    ("last_heard_at", |a, b| a.last_heard_at.cmp(&b.last_heard_at)),
    ("created_at", |a, b| a.created_at.cmp(&b.created_at)),
];

pub(super) fn add(api: &mut Api) {
    let list = Operation::get("/devices", "listDevices", DevicesRead)
        .says("List enrolled devices.")
        .query("user", &serde_json::json!({"type": "string"}), "Only this person's.");
    api.add(list.paged(&names(ORDERS)).answers_page::<DeviceView>(), list_devices);
    let show = Operation::get("/devices/{device}", "getDevice", DevicesRead)
        .says("Show a device, by its number, its public key, or a name that no other has.");
    api.add(show.answers::<DeviceView>(StatusCode::OK), show_device);
    let remove = Operation::delete("/devices/{device}", "removeDevice", DevicesWrite)
        .says("Remove a device; its sessions end at once and its addresses become free.");
    api.add(remove, remove_device);
}

#[derive(Clone, Debug, Deserialize)]
struct OfUser {
    user: Option<String>,
    #[serde(default)]
    search: String,
    sort: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

async fn list_devices(
    State(app): State<Arc<App>>,
    Params(query): Params<OfUser>,
) -> Result<Json<Page<DeviceView>>, Problem> {
    let OfUser { user: login, search, sort, limit, offset } = query;
    let query = ListQuery { search, sort, limit, offset };
    let page = app.store.read(move |view| {
        let devices = match &login {
            Some(login) => {
                let owner = user::find(view, login)?;
                view.devices_of(owner.id)?
            }
            None => view.devices()?,
        };
        let words = |one: &DeviceView| format!("{} {} {}", one.name, one.user, one.public_key);
        Page::of(DeviceView::all(view, devices)?, &query, words, ORDERS)
    });
    page.await.map(Json)
}

async fn show_device(
    State(app): State<Arc<App>>,
    Named(device): Named,
) -> Result<Json<DeviceView>, Problem> {
    let shown = app.store.read(move |view| {
        let found = flow::find(view, &device)?;
        let shown = DeviceView::all(view, vec![found])?.pop();
        shown.ok_or_else(|| Problem::not_found("there is no such device"))
    });
    shown.await.map(Json)
}

async fn remove_device(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(device): Named,
) -> Result<StatusCode, Problem> {
    let by = caller.by(app.clock.now());
    app.store.write(move |tx| flow::remove(tx, by, &device).map_err(Problem::from)).await?;
    app.registry.wake_all();
    Ok(StatusCode::NO_CONTENT)
}
