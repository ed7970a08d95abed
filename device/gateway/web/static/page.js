// The live page: keeps the newest part of every kind, and redraws what changed. No framework, no outside request.

import { LABELS, face, placeholder } from "./glyph.js";

const WORDS = {
  anger: "Anger", boredom: "Boredom", disgust: "Disgust", fear: "Fear",
  happiness: "Happiness", neutral: "Neutral", sadness: "Sadness", surprise: "Surprise",
};
const REASONS = {
  silence: "Silence: nothing to hear", no_face: "No face in view", several_faces: "Several faces in view",
  low_quality: "Sound or picture too poor", conflict: "Voice, face disagree", low_confidence: "Not sure enough",
  warming_up: "Warming up",
};
// Why a sense gives nothing, as the unit's status says it.
const FAULTS = {
  not_found: "not found", busy: "used by another program", unplugged: "unplugged", silent_driver: "gives nothing",
  unreadable: "cannot be read", wrong_format: "in the wrong format", not_installed: "not installed",
};
const MODES = {
  labels: "labels per desk", "class-aggregate": "class picture only", off: "recognition is off",
  presence: "presence and sound level, no emotions",
};
const STALE_AFTER_MS = 6000;
const MANY_DESKS = 16;

const parts = new Map();
const cards = new Map();
const lines = new Map();
const tiles = new Map();
const heard = new Map();

const find = (id) => document.getElementById(id);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function pill(id, state, words) {
  const node = find(id);
  node.dataset.state = state;
  put(node.querySelector(".words"), words);
}

const percent = (share) => `${Math.round(share * 100)} %`;
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function delayWords(ms) {
  if (ms === null) return "no clock";
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// --- room ----------------------------------------------------------------------------------------------------------

function drawRoom(room) {
  put(find("room"), `Room ${room.room}`);
  document.title = `Moodline · ${room.room}`;
  pill("pill-broker", room.broker === "connected" ? "good" : "bad", `Broker: ${room.broker}`);
  const policy = room.policy;
  pill("pill-policy", policy.in_force ? "good" : "bad", `Policy: ${policy.in_force ? MODES[room.mode] : "not in force"}`);
  const until = new Date(policy.not_after_ms).toLocaleDateString([], { dateStyle: "long" });
  put(
    find("policy"),
    policy.in_force
      ? [
        `Policy in force: ${MODES[room.mode]}`, `purpose: ${policy.purpose}`, `setting: ${policy.setting}`,
        `jurisdiction: ${policy.jurisdiction}`, `approved by: ${policy.approved_by.replace(/\.$/, "")}`, `until ${until}`,
        `labels kept for ${policy.retention_days} ${policy.retention_days === 1 ? "day" : "days"}`,
      ].join(" · ")
      : `No label is handed out: ${policy.why_not}`,
  );
  find("policy").classList.toggle("not-in-force", !policy.in_force);
  put(find("version"), `Moodline ${room.version}, gateway ${room.gateway}`);
}

// --- lines and desks -----------------------------------------------------------------------------------------------

function fact(list, term) {
  const box = make("div", "fact");
  const value = make("dd");
  box.append(make("dt", "", term), value);
  list.append(box);
  return value;
}

function lineOf(name) {
  if (lines.has(name)) return lines.get(name);
  const section = make("section", "panel line");
  const heading = make("h2", "", `Line ${name}`);
  heading.id = `line-${name}`;
  section.setAttribute("aria-labelledby", heading.id);
  const facts = make("dl", "facts");
  const values = {
    round: fact(facts, "Round"), opener: fact(facts, "Opened by"), signed: fact(facts, "Signed"),
    live: fact(facts, "Desks live"), verified: fact(facts, "Labels verified"), refused: fact(facts, "Refused"),
  };
  const head = make("div", "line-head");
  head.append(heading, facts);
  const desks = make("ol", "desks");
  section.append(head, desks);
  find("lines").append(section);
  const line = { section, values, desks };
  lines.set(name, line);
  return line;
}

function cardOf(lineName, unit, deskName) {
  const key = `${lineName}/${unit}`;
  if (cards.has(key)) return cards.get(key);
  const item = make("li", "desk");
  item.dataset.unit = unit;
  const rail = make("div", "rail");
  const node = make("span", "node");
  node.setAttribute("aria-hidden", "true");
  const flag = make("span", "flag", "opens the round");
  rail.append(node, flag);
  const title = make("h3", "", deskName);
  const picture = make("div", "picture");
  const label = make("p", "label", "Waiting");
  const why = make("p", "why", "No label yet");
  const fault = make("p", "fault");
  fault.hidden = true;
  const rows = make("dl", "rows");
  const shares = fact(rows, "Voice · face");
  const bar = make("div", "shares empty");
  bar.setAttribute("aria-hidden", "true");
  bar.append(make("span", "speech"), make("span", "face"));
  rows.append(bar);
  const proof = fact(rows, "Witnesses");
  const delay = fact(rows, "Delay");
  item.append(rail, title, picture, label, why, fault, rows);
  const card = { item, flag, title, picture, label, why, fault, shares, bar, proof, delay, drawn: "" };
  cards.set(key, card);
  return card;
}

function drawLine(name, line) {
  const view = lineOf(name);
  const names = new Map(line.desks.map((desk) => [desk.unit, desk.desk]));
  put(view.values.round, line.round === null ? "none yet" : line.round.toLocaleString());
  put(view.values.opener, line.opener === null ? "nobody yet" : names.get(line.opener) ?? line.opener);
  put(view.values.signed, `${line.signed.length} of ${line.order.length}`);
  put(view.values.live, `${line.live.length} of ${line.desks.length}`);
  put(view.values.verified, line.verified.toLocaleString());
  put(view.values.refused, line.refused.toLocaleString());
  view.values.refused.parentElement.classList.toggle("raised", line.refused > 0);
  view.desks.classList.toggle("many", line.desks.length > MANY_DESKS);
  view.desks.hidden = parts.get("room")?.mode === "class-aggregate";
  for (const desk of line.desks) {
    const card = cardOf(name, desk.unit, desk.desk);
    put(card.title, desk.desk);
    card.item.classList.toggle("opens", line.opener === desk.unit);
    card.item.classList.toggle("signed", line.signed.includes(desk.unit));
    card.flag.hidden = line.opener !== desk.unit;
    const away = !line.live.includes(desk.unit);
    if (card.away !== away) {
      card.away = away;
      drawDesk(name, desk.unit);
    }
    if (card.item.parentElement !== view.desks) view.desks.append(card.item);
  }
  drawPlaces(name, line);
}

function pictureOf(card, record, box) {
  if (card.away) return ["away", "Away", awayWords(box)];
  if (!record) return ["waiting", "Waiting", "No label yet"];
  if (record.state === "given") return [record.label, WORDS[record.label], `${percent(record.confidence)} sure`];
  if (record.state === "muted") return ["muted", "Muted", "Off at the desk"];
  if (record.state === "opted_out") return ["opted-out", "Opted out", "Takes no part"];
  if (record.state === "presence") return ["unsure", presentWords(record.presence), soundWords(record.presence)];
  return ["unsure", "No label", REASONS[record.abstain_reason] ?? record.abstain_reason];
}

function presentWords(presence) {
  if (presence.face_seen === null) return "Not seen";
  return presence.face_seen ? "Present" : "No face";
}

function soundWords(presence) {
  return presence.level_dbfs === null ? "No sound level" : `Sound from ${presence.level_dbfs} dB`;
}

function awayWords(box) {
  if (box?.process === "stopped") return "Switched off";
  if (box?.process === "lost") return "Lost: power, network?";
  if (box?.process === "enrol_anew") return "Copied or restored: enrol anew";
  if (box?.process === "revoked") return "Revoked";
  return box ? "Connected, not signing" : "Not on the line";
}

function faultWords(box) {
  const found = [["microphone", "Microphone"], ["camera", "Camera"]].filter(([sense]) => box?.[sense] in FAULTS);
  return found.map(([sense, name]) => `${name} ${FAULTS[box[sense]]}`).join(", ");
}

function drawDesk(line, unit) {
  const card = cards.get(`${line}/${unit}`);
  if (!card) return;
  const record = parts.get(`desk/${line}/${unit}`);
  const box = parts.get(`box/${line}/${unit}`);
  const [kind, words, why] = pictureOf(card, record, box);
  const confidence = record?.confidence ?? 0;
  const drawn = `${kind} ${words} ${Math.round(confidence * 20)}`;
  if (card.drawn !== drawn) {
    card.drawn = drawn;
    const title = `${card.title.textContent}: ${words}${kind in WORDS ? `, ${why}` : ""}`;
    card.picture.replaceChildren(kind in WORDS ? face(kind, confidence, title) : placeholder(kind, title));
    card.item.dataset.kind = kind;
  }
  put(card.label, words);
  put(card.why, why);
  put(card.fault, card.away ? "" : faultWords(box));
  card.fault.hidden = card.fault.textContent === "";
  drawTile(`${line}/${unit}`);
  drawFigures(card, card.away ? undefined : record, kind);
}

// A label gets its last witnesses when the next one is already there: until then the one before it speaks.
function witnessWords(card, record) {
  if (record.status === "witnessed") card.witnessed = record;
  const known = card.witnessed;
  const recent = known && known.session === record.session && record.sequence - known.sequence <= 2;
  return recent ? `${known.witnesses} ✓` : `${record.witnesses} so far`;
}

function drawFigures(card, record, kind) {
  const named = kind in WORDS;
  const whole = (share) => String(Math.round(share * 100));
  put(card.shares, named ? `${whole(record.shares.speech)} · ${whole(record.shares.face)} %` : "–");
  card.bar.classList.toggle("empty", !named);
  card.bar.firstChild.style.flexGrow = named ? record.shares.speech : 0;
  card.bar.lastChild.style.flexGrow = named ? record.shares.face : 0;
  put(card.proof, record ? witnessWords(card, record) : "–");
  put(card.delay, record ? delayWords(record.delay_ms) : "–");
}

// --- map of the room: only when the gateway says where desks stand, in rows from the board and columns from the left ---

function tileOf(key, unit) {
  if (tiles.has(key)) return tiles.get(key);
  const item = make("li", "tile-place");
  item.dataset.place = unit;
  const link = make("a");
  const picture = make("span", "tile-picture");
  picture.setAttribute("aria-hidden", "true");
  const name = make("span", "tile-name");
  const words = make("span", "tile-words");
  link.append(picture, name, words);
  item.append(link);
  const tile = { item, link, picture, name, words, drawn: "" };
  tiles.set(key, tile);
  return tile;
}

function mapOf() {
  const shown = find("map");
  if (shown) return shown;
  const section = make("section", "panel map");
  section.id = "map";
  const heading = make("h2", "", "The room");
  heading.id = "map-title";
  section.setAttribute("aria-labelledby", heading.id);
  const frame = make("div", "map-frame");
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-labelledby", heading.id);
  frame.append(make("p", "map-board", "Board"), make("ol", "map-desks"));
  section.append(heading, frame);
  find("lines").prepend(section);
  return section;
}

function drawPlaces(name, line) {
  const placed = new Map(line.desks.filter((desk) => desk.place).map((desk) => [`${name}/${desk.unit}`, desk]));
  for (const [key, tile] of tiles) {
    if (!key.startsWith(`${name}/`) || placed.has(key)) continue;
    tile.item.remove();
    tiles.delete(key);
  }
  for (const [key, desk] of placed) {
    const card = cards.get(key);
    card.item.id = `desk-${key.replace("/", "-")}`;
    const tile = tileOf(key, desk.unit);
    tile.link.href = `#${card.item.id}`;
    tile.place = desk.place;
    put(tile.name, desk.desk);
    drawTile(key);
  }
  layOutMap();
}

// Empty rows and columns before the first desk are left out; those between desks are aisles, and stay.
function layOutMap() {
  if (!tiles.size && !find("map")) return;
  const section = mapOf();
  section.hidden = !tiles.size || parts.get("room")?.mode === "class-aggregate";
  const inOrder = [...tiles.values()].sort((a, b) => a.place[0] - b.place[0] || a.place[1] - b.place[1]);
  const laidOut = inOrder.map((tile) => tile.place.join()).join(" ");
  const list = section.querySelector(".map-desks");
  if (list.dataset.laidOut === laidOut && list.children.length === inOrder.length) return;
  list.dataset.laidOut = laidOut;
  const [top, left] = [0, 1].map((axis) => Math.min(...inOrder.map((tile) => tile.place[axis])) - 1);
  for (const tile of inOrder) {
    tile.item.style.gridArea = `${tile.place[0] - top} / ${tile.place[1] - left}`;
    list.append(tile.item);
  }
}

function drawTile(key) {
  const tile = tiles.get(key);
  const card = cards.get(key);
  if (!tile || !card) return;
  put(tile.words, card.label.textContent);
  tile.item.dataset.kind = card.item.dataset.kind ?? "waiting";
  if (tile.drawn === card.drawn) return;
  tile.drawn = card.drawn;
  tile.picture.replaceChildren(...[...card.picture.children].map((drawing) => drawing.cloneNode(true)));
}

// --- class picture -------------------------------------------------------------------------------------------------

function drawClass(picture) {
  let section = find("class");
  if (!section) {
    section = make("section", "panel class");
    section.id = "class";
    section.append(make("h2", "", "Class picture"), make("p", "small"), make("ol", "bands"));
    find("lines").prepend(section);
  }
  const [, words, bands] = section.children;
  const shown = picture.counts !== null;
  put(
    words,
    shown
      ? `${picture.desks} desks, ${clock(picture.from_ms)} to ${clock(picture.to_ms)}. No single desk is shown under this policy.`
      : `Fewer than ${picture.min_group} desks took part, so nothing is shown.`,
  );
  bands.replaceChildren();
  if (!shown) return;
  for (const [label, count] of Object.entries(picture.counts)) {
    const item = make("li", "band");
    const title = `${WORDS[label] ?? "No label"}: ${count} of ${picture.desks}`;
    const image = label in WORDS ? face(label, 0.9, title) : placeholder("unsure", title);
    const bar = make("meter");
    Object.assign(bar, { min: 0, max: picture.desks, value: count });
    bar.setAttribute("aria-label", title);
    item.append(image, make("span", "band-name", WORDS[label] ?? "No label"), bar, make("span", "band-count", String(count)));
    bands.append(item);
  }
}

// --- alerts --------------------------------------------------------------------------------------------------------

function drawAlerts(alerts) {
  find("alerts-none").hidden = alerts.length > 0;
  const list = find("alerts");
  const wanted = new Set(alerts.map((alert) => alert.event_id));
  for (const item of [...list.children]) if (!wanted.has(item.dataset.event)) item.remove();
  const shown = new Set([...list.children].map((item) => item.dataset.event));
  for (const alert of [...alerts].reverse()) if (!shown.has(alert.event_id)) list.prepend(alertItem(alert));
}

function nameOf(peer) {
  for (const [name, part] of parts) {
    const desk = name.startsWith("line/") && part.desks.find((each) => each.unit === peer);
    if (desk) return `${desk.desk} (${peer})`;
  }
  return peer;
}

// What a refused message says of its sender is not proved.
function peerWords(alert) {
  if (!alert.peer) return "";
  return `${alert.step === null ? "" : "In the name of "}${nameOf(alert.peer)}: `;
}

function alertItem(alert) {
  const item = make("li", `alert ${alert.severity}`);
  item.dataset.event = alert.event_id;
  const mark = make("span", "alert-mark", { refused: "✕", warning: "!", note: "i" }[alert.severity]);
  mark.setAttribute("aria-hidden", "true");
  const box = make("div");
  const repeats = alert.repeats > 0 ? `${alert.repeats} more like it before` : "";
  const step = alert.step === null ? "" : `step ${alert.step}`;
  const facts = [clock(alert.at_ms), alert.line && `line ${alert.line}`, alert.code, step, repeats].filter(Boolean);
  box.append(
    make("p", "alert-what", alert.sentence),
    make("p", "alert-next", alert.next_step),
    make("p", "small", `${peerWords(alert)}${alert.detail}`),
    make("p", "small", facts.join(" · ")),
  );
  item.append(mark, box);
  return item;
}

// --- life ----------------------------------------------------------------------------------------------------------

function take(key, value) {
  parts.set(key, value);
  const [kind, line, unit] = key.split("/");
  if (kind === "room") drawRoom(value);
  else if (kind === "line") drawLine(line, value);
  else if (kind === "class") drawClass(value);
  else if (kind === "alerts") drawAlerts(value);
  else if (kind === "box") drawDesk(line, unit);
  else if (kind === "desk") {
    heard.set(`${line}/${unit}`, performance.now());
    drawDesk(line, unit);
  }
}

function showAge() {
  const now = performance.now();
  for (const [key, card] of cards) {
    const age = now - (heard.get(key) ?? now);
    card.item.classList.toggle("stale", age > STALE_AFTER_MS);
    tiles.get(key)?.item.classList.toggle("stale", age > STALE_AFTER_MS);
    if (age > STALE_AFTER_MS && !card.away) put(card.why, `No news for ${Math.round(age / 1000)} s`);
  }
}

function speak() {
  const words = [...cards.values()].map((card) => `${card.title.textContent}: ${card.label.textContent}`).join(", ");
  put(find("spoken"), words);
}

function listen() {
  const source = new EventSource("/api/events");
  source.addEventListener("parts", (event) => {
    pill("pill-page", "good", "Page: live");
    const message = JSON.parse(event.data);
    if (message.whole) for (const key of parts.keys()) if (!(key in message.parts)) parts.delete(key);
    for (const [key, value] of Object.entries(message.parts).sort(byKind)) take(key, value);
  });
  source.addEventListener("error", () => pill("pill-page", "bad", "Page: reconnecting"));
}

const ORDER = ["room", "line", "class", "box", "desk", "alerts"];
const byKind = ([a], [b]) => ORDER.indexOf(a.split("/")[0]) - ORDER.indexOf(b.split("/")[0]);

function drawKey() {
  const list = find("key");
  const entries = LABELS.map((label) => [face(label, 0.95, WORDS[label]), WORDS[label]]);
  entries.push([placeholder("unsure", "No label"), "No label: the box abstains"]);
  entries.push([placeholder("muted", "Muted"), "Muted at the desk"]);
  entries.push([placeholder("opted-out", "Opted out"), "Opted out: does not take part"]);
  entries.push([placeholder("away", "Away"), "Away: not on the line"]);
  for (const [image, words] of entries) {
    const item = make("li");
    item.append(image, make("span", "", words));
    list.append(item);
  }
}

drawKey();
listen();
setInterval(showAge, 1000);
setInterval(speak, 20000);
