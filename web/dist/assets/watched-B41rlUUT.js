class s{#t=new Set;watch(t){return this.#t.add(t),()=>this.#t.delete(t)}changed(){for(const t of[...this.#t])t()}}export{s as W};
