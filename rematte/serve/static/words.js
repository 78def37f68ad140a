// What the page says, in each language. Messages of the converter stay English.

import { SETTING_WORDS } from "./settings-words.js";

const WORDS = {
  en: {
    ...SETTING_WORDS.en,
    tagline: "Cut people out of video, on this machine",
    other: "中文",
    drop: "Drop videos and photos here, or choose files",
    stays: "They stay on this machine.",
    offline: "The server does not answer. Is rematte serve running? Trying again…",
    jobs: "Videos and photos",
    cancel: "Cancel",
    remove: "Remove",
    comparison: "The video before and after",
    frameBack: "Previous frame",
    frameOn: "Next frame",
    seek: "Time",
    mute: "Sound off",
    unmute: "Sound on",
    full: "Full screen",
    small: "Leave full screen",
    compare: "Compare",
    view: "What is shown",
    views: { mp4: "Over the background", squares: "Transparent", colour: "Over a colour", alpha: "Alpha matte", original: "Original" },
    smallVersion: "This is a small version for viewing, at most two minutes long. The files to download have the full size and length.",
    look: "Look at a moment, and choose who is cut out",
    lookPhoto: "Choose who is cut out",
    original: "Original",
    cutout: "Cut-out",
    making: "Making the preview…",
    tryAgain: "Try again",
    moment: "Moment",
    partStart: "Start of the part",
    partEnd: "End of the part",
    startHere: "Start here",
    endHere: "End here",
    whole: "Whole clip",
    part: (length) => `Only ${length} will be converted`,
    tools: "Who is cut out",
    layer: "The original. Arrow keys move the cross, Enter clicks, or starts and ends a stroke, Escape cancels it",
    keepOne: "Keep one person",
    dropOne: "Leave one out",
    paintIn: "Paint in",
    paintOut: "Paint out",
    clickHint: "Click a person in either picture. People who touch each other there count as one.",
    paintHint: "Paint in either picture. What you paint in is always kept as it is; what you paint out never is.",
    shape: "Brush or box",
    brush: "Brush",
    box: "Box",
    thickness: "Thickness",
    holds: "How long the area applies",
    holdsWhole: "For the whole clip",
    holdsNear: "For two seconds here",
    holdsAfter: "From here on",
    holdsBefore: "Until here",
    undo: "Undo",
    clearChoice: "Clear",
    keptOne: "One person is kept",
    droppedOne: "One person is left out",
    missed: "Nobody is there. Click on a person.",
    outside: "chosen outside the part: choose again within it",
    added: (count) => count === 1 ? "1 area painted in" : `${count} areas painted in`,
    erased: (count) => count === 1 ? "1 area painted out" : `${count} areas painted out`,
    nobody: "No people found here.",
    unsure: "The network is unsure here: check the edges, or paint corrections.",
    edges: "Hair and edges are uncertain here.",
    sureHere: "The network is sure here.",
    closer: "The conversion looks closer at people far away.",
    before: "Before",
    after: "After",
    slider: "How much of the original is shown",
    play: "Play",
    pause: "Pause",
    setup: "Settings",
    again: "Convert again with other settings",
    previous: "The previous result:",
    earlier: "Earlier results",
    outputs: "What to make",
    colour: "Colour",
    tint: "Choose a colour",
    blur: "Blurred",
    states: { ready: "Ready", queued: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" },
    download: "Download",
    checking: "Checking the file…",
    tooLarge: (limit) => `Too large: at most ${limit} GB.`,
    lost: "The connection was lost.",
    facts: (job) => job.info.photo ? `${job.info.width}×${job.info.height}` : `${job.info.width}×${job.info.height}, ${Number(job.info.rate.toFixed(2))} frames/s${job.info.frames ? `, ${(job.info.frames / job.info.rate).toFixed(1)} s` : ""}`,
    waiting: "Waiting for its turn",
    finishing: "Finishing…",
    frames: (done, all) => `${done}${all ? ` of ${all}` : ""} frames`,
    left: (seconds) => seconds < 90 ? `about ${Math.ceil(seconds)} s left` : `about ${Math.round(seconds / 60)} min left`,
    noPreview: "No preview",
    sure: (name) => `Remove ${name} and everything made from it?`,
    nothing: "Choose at least one thing to make.",
    bytes: (count) => count === 1 ? "1\u00a0byte" : `${count}\u00a0bytes`,
  },
  zh: {
    ...SETTING_WORDS.zh,
    tagline: "在本机上把人物从视频中抠出",
    other: "English",
    drop: "把视频和照片拖到这里，或选择文件",
    stays: "它们不会离开这台电脑。",
    offline: "服务器没有响应。rematte serve 还在运行吗？正在重试……",
    jobs: "视频和照片",
    cancel: "取消",
    remove: "删除",
    comparison: "处理前后的视频",
    frameBack: "后退一帧",
    frameOn: "前进一帧",
    seek: "时间",
    mute: "静音",
    unmute: "打开声音",
    full: "全屏",
    small: "退出全屏",
    compare: "对比",
    view: "显示内容",
    views: { mp4: "带背景", squares: "透明", colour: "纯色背景", alpha: "Alpha 遮罩", original: "原片" },
    smallVersion: "这里播放的是为本页制作的小尺寸版本，最长两分钟。下载的文件是完整尺寸和长度。",
    look: "查看某一时刻，选择抠出谁",
    lookPhoto: "选择抠出谁",
    original: "原片",
    cutout: "抠像",
    making: "正在制作预览……",
    tryAgain: "重试",
    moment: "时刻",
    partStart: "片段开头",
    partEnd: "片段结尾",
    startHere: "从这里开始",
    endHere: "到这里结束",
    whole: "整段视频",
    part: (length) => `只转换 ${length}`,
    tools: "抠出谁",
    layer: "原片。方向键移动十字光标，回车键点击，或开始、结束一笔涂抹，Esc 键取消",
    keepOne: "只留一人",
    dropOne: "去掉一人",
    paintIn: "涂抹保留",
    paintOut: "涂抹去除",
    clickHint: "在任一画面中点击一个人。此刻相互接触的人算作一人。",
    paintHint: "在任一画面中涂抹。涂抹保留的部分总是原样保留，涂抹去除的部分永不保留。",
    shape: "画笔或方框",
    brush: "画笔",
    box: "方框",
    thickness: "粗细",
    holds: "涂抹区域的有效时间",
    holdsWhole: "整段视频",
    holdsNear: "此处两秒",
    holdsAfter: "从这里起",
    holdsBefore: "到这里止",
    undo: "撤销",
    clearChoice: "清除",
    keptOne: "只保留一人",
    droppedOne: "去掉了一人",
    missed: "那里没有人。请点击一个人。",
    outside: "选人的时刻在片段之外：请在片段内重新选择",
    added: (count) => `涂抹保留 ${count} 处`,
    erased: (count) => `涂抹去除 ${count} 处`,
    nobody: "这里没有发现人物。",
    unsure: "网络对这里没有把握：请检查边缘，或涂抹修正。",
    edges: "这里的头发和边缘不太确定。",
    sureHere: "网络对这里有把握。",
    closer: "正式转换时会更仔细地处理远处的人物。",
    before: "处理前",
    after: "处理后",
    slider: "原片显示的比例",
    play: "播放",
    pause: "暂停",
    setup: "设置",
    again: "换一种设置重新转换",
    previous: "上一次的结果：",
    earlier: "更早的结果",
    outputs: "输出内容",
    colour: "纯色",
    tint: "选择颜色",
    blur: "虚化",
    states: { ready: "就绪", queued: "排队中", running: "进行中", done: "完成", failed: "失败", cancelled: "已取消" },
    download: "下载",
    checking: "正在检查文件……",
    tooLarge: (limit) => `文件太大：最多 ${limit} GB。`,
    lost: "连接中断。",
    facts: (job) => job.info.photo ? `${job.info.width}×${job.info.height}` : `${job.info.width}×${job.info.height}、${Number(job.info.rate.toFixed(2))} 帧/秒${job.info.frames ? `、${(job.info.frames / job.info.rate).toFixed(1)} 秒` : ""}`,
    waiting: "正在排队等待",
    finishing: "正在收尾……",
    frames: (done, all) => `${done}${all ? ` / ${all}` : ""} 帧`,
    left: (seconds) => seconds < 90 ? `大约还需 ${Math.ceil(seconds)} 秒` : `大约还需 ${Math.round(seconds / 60)} 分钟`,
    noPreview: "无法预览",
    sure: (name) => `删除 ${name} 以及由它生成的所有文件？`,
    nothing: "请至少选择一种输出。",
    bytes: (count) => `${count}\u00a0字节`,
  },
};

const STORE = "rematte-language";
let language = localStorage.getItem(STORE) ?? (navigator.language.startsWith("zh") ? "zh" : "en");
if (!(language in WORDS)) language = "en";

/** The texts in the chosen language. */
export const words = () => WORDS[language];

/** Texts as a list within a sentence. */
export const list = (texts) => texts.join(language === "zh" ? "、" : ", ");

/** Whole sentences, one after the other. */
export const sentences = (texts) => texts.join(language === "zh" ? "" : " ");

/**
 * A message of the server about a file as a sentence of the page, without "NAME: ".
 *
 * Where it begins with the name of the file, or of one made from it, that stays as it is.
 */
export function sentence(text, name) {
  const own = text.startsWith(`${name}: `) ? text.slice(name.length + 2) : text;
  const stem = name.replace(/\.[^.]*$/, "");
  const named = [".", "_"].some((after) => own.startsWith(stem + after));
  return (named ? own : own.replace(/^[a-z](?=[a-z]*[ ,])/, (letter) => letter.toUpperCase())).replace(/[^.!?…。]$/, "$&.");
}

/** A number of bytes in words. */
export function size(bytes) {
  if (bytes < 1e3) return words().bytes(bytes);
  const [unit, name] = bytes < 1e6 ? [1e3, "KB"] : bytes < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  const number = bytes / unit;
  return `${number < 10 ? Number(number.toFixed(1)) : Math.round(number)}\u00a0${name}`;
}

/** Switch to the other language. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(STORE, language);
}

/** Fill in the texts of an element and of those below it. */
export function translate(root) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of root.querySelectorAll("[data-word]")) {
    element.textContent = words()[element.dataset.word];
  }
  for (const element of root.querySelectorAll("[data-word-label]")) {
    element.setAttribute("aria-label", words()[element.dataset.wordLabel]);
  }
}
