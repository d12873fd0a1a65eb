// node render.mjs FOLDER: every template of FOLDER over its conversations.json by @huggingface/jinja.
// Prints {"template/conversation/setting": text, or null where it refuses}.
import { readFileSync, readdirSync } from 'node:fs';
import { Template } from '@huggingface/jinja';

const folder = process.argv[2];
const { trusted, now, settings, conversations } = JSON.parse(readFileSync(`${folder}/conversations.json`, 'utf8'));

// strftime_now is the package's own: give it our clock.
process.env.TZ = 'UTC';
globalThis.Date = class extends Date {
  constructor(...args) {
    super(...(args.length ? args : [now * 1000]));
  }
};

const results = {};
for (const file of readdirSync(folder).filter((f) => f.endsWith('.jinja')).sort()) {
  const template = new Template(readFileSync(`${folder}/${file}`, 'utf8'));
  for (const [conversation, messages] of Object.entries(conversations))
    for (const [setting, variables] of Object.entries(settings)) {
      let text = null;
      try {
        text = template.render({ messages, ...variables, ...trusted });
      } catch {
        // a refusal; why is each program's own affair
      }
      results[`${file.slice(0, -6)}/${conversation}/${setting}`] = text;
    }
}
console.log(JSON.stringify(results));
