// The player: waveform from the server's peaks, transport, passages, a volume for each channel.
"use strict";

(() => {
  const player = document.getElementById("player");
  const audio = document.getElementById("audio");
  const get = (id) => document.getElementById(id);
  const channels = Number(player.dataset.channels);
  const markers = JSON.parse(player.dataset.markers);
  const QUIET = 12; // thousandths of full scale
  const SHORTEST_SILENCE_S = 1.2;

  const clock = (seconds) => {
    const whole = Math.max(0, Math.floor(seconds));
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    return h ? `${h}:${String(m).padStart(2, "0")}:${String(s).padStart(2, "0")}` : `${m}:${String(s).padStart(2, "0")}`;
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  let duration = 0;
  let silences = [];
  let passage = null; // [from, to] in seconds
  let region = null;
  let surfer = null;
  let regions = null;

  const seek = (at) => {
    audio.currentTime = Math.min(Math.max(0, at), (duration || audio.duration || at) - 0.01);
    show();
  };

  function show() {
    const at = audio.currentTime;
    get("now").textContent = clock(at);
    const wave = get("wave");
    wave.setAttribute("aria-valuenow", at.toFixed(1));
    wave.setAttribute("aria-valuetext", `${clock(at)} of ${clock(duration)}`);
  }

  // Volume and mute by channel: the two channels apart, then both to both ears.
  let mixer = null;
  const volumes = [...player.querySelectorAll("[data-volume]")];
  const mutes = [...player.querySelectorAll("[data-mute]")];
  function setVolumes() {
    volumes.forEach((field, index) => {
      const muted = mutes[index].getAttribute("aria-pressed") === "true";
      const gain = muted ? 0 : Number(field.value) / 100;
      if (mixer) mixer.gains[index].gain.value = gain;
    });
  }
  function mix() {
    if (mixer || !window.AudioContext) return;
    const context = new AudioContext();
    const source = context.createMediaElementSource(audio);
    const gains = volumes.map(() => context.createGain());
    if (channels === 2) {
      const splitter = context.createChannelSplitter(2);
      source.connect(splitter);
      gains.forEach((gain, index) => { splitter.connect(gain, index); gain.connect(context.destination); });
    } else {
      source.connect(gains[0]);
      gains[0].connect(context.destination);
    }
    mixer = { context, gains };
    setVolumes();
  }
  volumes.forEach((field) => field.addEventListener("input", setVolumes));
  const toggle = (button) => button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  const isOn = (id) => get(id).getAttribute("aria-pressed") === "true";
  mutes.forEach((button) => button.addEventListener("click", () => { toggle(button); setVolumes(); }));

  async function playOrPause() {
    if (!audio.paused) { audio.pause(); return; }
    mix();
    if (mixer) await mixer.context.resume();
    await audio.play();
  }
  get("play").addEventListener("click", playOrPause);
  audio.addEventListener("play", () => { player.classList.add("playing"); get("play").setAttribute("aria-label", "Pause"); });
  audio.addEventListener("pause", () => { player.classList.remove("playing"); get("play").setAttribute("aria-label", "Play"); });
  for (const event of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(event, show);

  function watch() {
    const at = audio.currentTime;
    if (!audio.paused && isOn("loop") && passage && (at >= passage[1] || at < passage[0] - 0.3)) seek(passage[0]);
    if (!audio.paused && isOn("skip")) {
      const silence = silences.find(([from, to]) => at >= from && at < to - 0.3);
      if (silence) seek(silence[1] - 0.15);
    }
    requestAnimationFrame(watch);
  }
  requestAnimationFrame(watch);

  get("speed").addEventListener("change", (event) => { audio.playbackRate = Number(event.target.value); });
  for (const button of player.querySelectorAll("[data-jump]")) {
    button.addEventListener("click", () => seek(audio.currentTime + Number(button.dataset.jump)));
  }
  for (const button of player.querySelectorAll("[data-at]")) {
    button.addEventListener("click", () => seek(Number(button.dataset.at) - 0.5));
  }
  get("skip").addEventListener("click", () => toggle(get("skip")));

  function setPassage(from, to, fromRegion) {
    passage = to - from >= 0.1 ? [Math.max(0, from), Math.min(duration, to)] : null;
    get("passage").textContent = passage ? `${clock(passage[0])} to ${clock(passage[1])}` : "";
    if (regions && !fromRegion) {
      if (region) region.remove();
      region = passage && regions.addRegion({ start: passage[0], end: passage[1], color: `${colour("--accent")}33` });
    }
    get("loop").setAttribute("aria-pressed", String(Boolean(passage)));
  }
  get("loop").addEventListener("click", () => {
    toggle(get("loop"));
    if (isOn("loop") && !passage) setPassage(audio.currentTime, Math.min(duration, audio.currentTime + 5));
  });
  get("loop-from").addEventListener("click", () => setPassage(audio.currentTime, passage && passage[1] > audio.currentTime ? passage[1] : duration));
  get("loop-to").addEventListener("click", () => setPassage(passage && passage[0] < audio.currentTime ? passage[0] : 0, audio.currentTime));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const in_field = event.target.closest("input, select, textarea, button, a, summary, audio, pre");
    const step = event.shiftKey ? 30 : 5;
    if (event.key === " " && !in_field) playOrPause();
    else if (event.key === "ArrowLeft" && !in_field) seek(audio.currentTime - step);
    else if (event.key === "ArrowRight" && !in_field) seek(audio.currentTime + step);
    else if (event.key === "Home" && event.target.id === "wave") seek(0);
    else if (event.key === "End" && event.target.id === "wave") seek(duration);
    else if (event.key === "[" && !in_field) get("loop-from").click();
    else if (event.key === "]" && !in_field) get("loop-to").click();
    else return;
    event.preventDefault();
  });

  function findSilences(peaks) {
    const step = peaks.bucket_samples / peaks.rate_hz;
    const loud = peaks.channels[0].map((_, index) => peaks.channels.some((one) => one[index] > QUIET));
    let from = null;
    [...loud, true].forEach((is_loud, index) => {
      if (!is_loud && from === null) from = index;
      if (is_loud && from !== null) {
        if ((index - from) * step >= SHORTEST_SILENCE_S) silences.push([from * step + 0.15, index * step]);
        from = null;
      }
    });
  }

  function draw(peaks) {
    const names = ["--in", "--out"];
    const look = (index) => ({ waveColor: `${colour(names[index])}70`, progressColor: colour(names[index]) });
    const height = channels === 2 ? 76 : 110;
    const plugins = [];
    if (WaveSurfer.Timeline) plugins.push(WaveSurfer.Timeline.create({ height: 20, style: { fontSize: "12px", color: colour("--faint") }, secondaryLabelOpacity: 0.7 }));
    if (WaveSurfer.Regions) plugins.push(regions = WaveSurfer.Regions.create());
    surfer = WaveSurfer.create({
      container: "#wave", media: audio, cspNonce: player.dataset.nonce,
      peaks: peaks.channels.map((one) => one.map((value) => value / 1000)), duration,
      normalize: false, height, cursorColor: colour("--ink"), cursorWidth: 2, barWidth: 2, barGap: 1, barRadius: 2,
      barMinHeight: 1, dragToSeek: false, ...look(0),
      splitChannels: channels === 2 ? peaks.channels.map((_, index) => look(index)) : undefined,
      barHeight: 1.4, plugins,
    });
    document.addEventListener("callreel:theme", () => {
      surfer.setOptions({ ...look(0), cursorColor: colour("--ink"),
        splitChannels: channels === 2 ? peaks.channels.map((_, index) => look(index)) : undefined });
    });
    surfer.on("ready", () => player.setAttribute("data-drawn", performance.now().toFixed(0)));
    if (!regions) return;
    const shades = { gap: "--bad", pause: "--warn", hold: "--warn", dtmf: "--accent", codec: "--faint" };
    surfer.once("ready", () => {
      for (const one of markers) {
        regions.addRegion({ start: one.at, end: one.at + one.length, drag: false, resize: false, channelIdx: one.channel,
          color: one.length ? `${colour(shades[one.kind])}3d` : colour(shades[one.kind]) });
      }
      regions.enableDragSelection({ color: `${colour("--accent")}33` });
      regions.on("region-created", (made) => {
        if (!made.resize) return;
        if (region && region !== made) region.remove();
        region = made;
        setPassage(made.start, made.end, true);
      });
      regions.on("region-updated", (one) => { if (one === region) setPassage(one.start, one.end, true); });
      regions.on("region-clicked", (one, event) => {
        event.stopPropagation();
        const box = get("wave").getBoundingClientRect();
        seek(((event.clientX - box.left + surfer.getScroll()) / surfer.getWrapper().clientWidth) * duration);
      });
    });
    get("zoom").addEventListener("input", (event) => {
      const least = get("wave").clientWidth / duration;
      surfer.zoom(least * 60 ** (Number(event.target.value) / 100));
    });
  }

  async function begin() {
    let peaks = null;
    try {
      const answer = await fetch(player.dataset.peaks);
      if (answer.ok) peaks = await answer.json();
    } catch { /* then there is no waveform, and the rest works */ }
    duration = peaks ? peaks.duration_ms / 1000 : audio.duration || 0;
    for (const part of player.querySelectorAll(".transport, .mix")) part.hidden = false;
    if (peaks) findSilences(peaks);
    if (peaks && window.WaveSurfer) {
      player.querySelector(".stage").hidden = false;
      player.classList.add("ready");
      draw(peaks);
    }
    show();
  }
  begin();
})();
