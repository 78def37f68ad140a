// All that the page says, in English and Chinese.

const EN = {
  tagline: 'People cut out of video, in this browser',
  welcome: 'Cut people out of video, right here',
  private: 'The network runs in this browser. No picture leaves your machine.',
  camera: 'Camera',
  open: 'Video file…',
  sample: 'Sample',
  pause: 'Pause',
  play: 'Play',
  record: 'Record',
  stop: 'Stop recording',
  saved: name => `Save ${name}`,
  rate: 'frames/s',
  network: 'network',
  whole: 'in all',
  picture: 'picture',
  ms: value => `${value} ms`,
  show: 'Show',
  white: 'White',
  green: 'Green',
  transparent: 'Transparent',
  blur: 'Blur',
  image: 'Image…',
  video: 'Video…',
  alpha: 'Alpha',
  foreground: 'Foreground',
  memory: 'What the network remembers',
  source: 'Source',
  which: 'Which camera',
  quality: 'Picture and engine',
  size: 'Longer side',
  original: 'as the source',
  ratio: 'Downsample ratio',
  automatic: 'automatic',
  backend: 'Runs on',
  webgpu: 'WebGPU · ONNX Runtime',
  webgl: 'WebGL · TensorFlow.js',
  wasm: 'WebAssembly · ONNX Runtime',
  loading: 'Loading the network…',
  ready: (name, threads) => `${name}${threads ? `, ${threads} threads` : ''}; its numbers were checked.`,
  canvas: 'The video with the chosen background',
  measure: 'How fast is this machine?',
  measuring: 'Runs every engine at two sizes, at ratio 1. Takes a minute, without a GPU many.',
  start: 'Measure',
  engine: 'Engine',
  fails: 'does not run',
  dark: 'Dark',
  light: 'Light',
  noCamera: 'There is no camera. Connect one, or open a video file.',
  denied: 'The camera is not allowed. Allow it beside the address, or open a video file.',
  busy: 'The camera cannot be read. Close other programs that use it, or open a video file.',
  unreadable: name => `This browser cannot play ${name}. Convert it to MP4 (H.264) or WebM.`,
  noImage: name => `This browser cannot show ${name}. Use a JPEG, PNG or WebP picture.`,
  choose: 'Choose a file for the background.',
  noEngine: why => `The network does not run here: ${why}. Choose another engine, or use a newer browser.`,
  noRecorder: 'This browser cannot record WebM. Use a current Chrome, Edge or Firefox.',
  tooSmall: 'The ratio leaves less than 16 pixels. Use a larger ratio or size.',
};

const ZH = {
  tagline: '在浏览器里把人从视频中抠出来',
  welcome: '就在这里，把人从视频中抠出来',
  private: '网络在本浏览器中运行，任何画面都不会离开您的电脑。',
  camera: '摄像头',
  open: '视频文件…',
  sample: '示例',
  pause: '暂停',
  play: '播放',
  record: '录制',
  stop: '停止录制',
  saved: name => `保存 ${name}`,
  rate: '帧/秒',
  network: '网络',
  whole: '总计',
  picture: '画面',
  ms: value => `${value} 毫秒`,
  show: '显示',
  white: '白色',
  green: '绿色',
  transparent: '透明',
  blur: '虚化',
  image: '图片…',
  video: '视频…',
  alpha: '透明度',
  foreground: '前景',
  memory: '网络的记忆',
  source: '来源',
  which: '哪个摄像头',
  quality: '画面与引擎',
  size: '长边',
  original: '与来源相同',
  ratio: '下采样比例',
  automatic: '自动',
  backend: '运行于',
  webgpu: 'WebGPU · ONNX Runtime',
  webgl: 'WebGL · TensorFlow.js',
  wasm: 'WebAssembly · ONNX Runtime',
  loading: '正在加载网络…',
  ready: (name, threads) => `${name}${threads ? `，${threads} 个线程` : ''}；数值已核对。`,
  canvas: '带有所选背景的视频',
  measure: '这台电脑有多快？',
  measuring: '以比例 1 在两种尺寸下运行每个引擎，约需一分钟；没有 GPU 时需要好几分钟。',
  start: '测量',
  engine: '引擎',
  fails: '无法运行',
  dark: '深色',
  light: '浅色',
  noCamera: '没有找到摄像头。请连接一个，或打开视频文件。',
  denied: '摄像头未获允许。请在地址栏旁允许，或打开视频文件。',
  busy: '无法读取摄像头。请关闭正在使用它的程序，或打开视频文件。',
  unreadable: name => `本浏览器无法播放 ${name}。请转换为 MP4（H.264）或 WebM。`,
  noImage: name => `本浏览器无法显示 ${name}。请使用 JPEG、PNG 或 WebP 图片。`,
  choose: '请选择背景文件。',
  noEngine: why => `网络无法在此运行：${why}。请选择其他引擎，或使用更新的浏览器。`,
  noRecorder: '本浏览器无法录制 WebM。请使用新版 Chrome、Edge 或 Firefox。',
  tooSmall: '该比例剩下不足 16 像素。请增大比例或尺寸。',
};

const kept = localStorage.getItem('language') ?? navigator.language;
let language = kept.startsWith('zh') ? 'zh' : 'en';

/** A word or sentence in the language of the page. */
export function say(key, ...given) {
  const word = (language === 'zh' ? ZH : EN)[key];
  return typeof word === 'function' ? word(...given) : word;
}

/** Put all words of the page in place. */
export function place() {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll('[data-word]')) {
    element.textContent = say(element.dataset.word);
  }
  const button = document.getElementById('language');
  button.textContent = language === 'zh' ? 'English' : '中文';
  button.lang = language === 'zh' ? 'en' : 'zh-CN';
}

/** Change to the other language. */
export function change() {
  language = language === 'zh' ? 'en' : 'zh';
  localStorage.setItem('language', language);
  place();
}
