// What is said to the server. Every answer is {said: [sentence, …]} or {error: sentence}.

export class Unusable extends Error {
  unheard = false; // whether nobody knows if it arrived
}

export async function look(desk, by, request) {
  const query = new URLSearchParams({ desk, by, request: request ?? "" });
  const answer = await fetch(`/view?${query}`, { cache: "no-store" });
  if (!answer.ok) throw new Unusable((await answer.text()).trim());
  return answer.json();
}

export async function say(path, words) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(words),
    });
  } catch {
    const error = new Unusable("The desk cannot be reached, and maybe did not hear this. Say it again: it counts once.");
    error.unheard = true;
    throw error;
  }
  return sentences(answer.status, await answer.text());
}

// Sends a file as it is, piece by piece from the disk; fetch would not tell how far it is.
export function send(file, words, progress) {
  return new Promise((resolve, reject) => {
    const query = new URLSearchParams({ name: file.name, ...words });
    const request = new XMLHttpRequest();
    request.open("POST", `/recordings?${query}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.loaded / (event.total || 1));
    request.onload = () => {
      try {
        resolve(sentences(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    };
    request.onerror = () =>
      reject(new Unusable(`${file.name} did not arrive whole. Hand it over again: twice is the same as once.`));
    request.send(file);
  });
}

function sentences(status, text) {
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Unusable(text.trim() || `The desk answers ${status}.`);
  }
  if (answer.error) throw new Unusable([...(answer.said ?? []), answer.error].join(" "));
  return answer.said;
}
